//! Serving, and stopping.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic_health::pb::health_server::HealthServer;

use super::connection::{self, Served};
use super::health_socket::HealthSocket;
use super::methods::Methods;
use super::reflection::Reflection;
use super::traffic::{Traffic, count};
use super::{Health, Limits, Listening};
use crate::metrics::Meters;
use crate::tls::ServerTls;
use crate::{served, supervisor};

/// After a connection could not be accepted for want of files or memory: long enough that some are free then, short
/// enough that nobody notices.
const PAUSE: Duration = Duration::from_millis(100);

/// That connections cannot be accepted is told this often.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// How often connections that hold memory and do not move are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How long open calls may go on after the shutdown has begun. Streams end themselves at once, so this is for
/// clients that do not read; with it a service is gone well within the 10 s after which supervisors kill.
const GRACE: Duration = Duration::from_secs(5);

/// Why a service is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors cannot be served.
    #[error("reflection cannot be set up")]
    Reflection(#[from] prost::DecodeError),
}

/// What a server can be served on: connections as they come.
pub trait Connections: Stream<Item = Result<Self::Connection, Self::Error>> {
    /// One of them.
    type Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;
    /// Why there is none.
    type Error: Into<Box<dyn std::error::Error + Send + Sync>>;
}

impl<S, C, E> Connections for S
where
    S: Stream<Item = Result<C, E>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Connection = C;
    type Error = E;
}

/// Serves `routes`, with reflection and health, until `shutdown` completes. Then `health` turns to not serving,
/// `on_shutdown` is called, which ends all watches ([`crate::log::Log::close`]), no more calls are taken, those
/// open get a short grace, and what is left then is abandoned: it ends with the runtime.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    listening: Listening<impl Connections>,
    routes: Routes,
    health: Health,
    limits: Limits,
    meters: &Meters,
    shutdown: impl Future<Output = ()>,
    on_shutdown: impl FnOnce(),
) -> Result<(), ServeError> {
    let own = health.services.iter().filter(|name| !name.is_empty());
    let methods = Arc::new(Methods::of(own.map(String::as_str))?);
    let reflection = Reflection::of(Arc::clone(&methods));
    let healths = HealthServer::new(health.service());
    let routes = routes
        .add_service(reflection.build_v1())
        .add_service(reflection.build_v1alpha())
        .add_service(served!(healths));
    let (stop, stopped) = watch::channel(());
    let traffic = Traffic::new(limits);
    meters.set_traffic(&traffic);
    let mut listening = listening;
    let (tls, socket) = (listening.tls.clone(), listening.health.take());
    let served = Served {
        routes: routes.prepare(),
        methods,
        traffic: Arc::clone(&traffic),
        tls: tls.clone(),
        told: Arc::default(),
        audit: listening.audit.clone(),
        stop: stopped,
    };
    tokio::select! {
        biased;
        () = shutdown => {}
        () = accept(listening, served) => {}
        () = look_after(&traffic) => {}
        () = keep(tls) => {}
        () = tell_how_it_is(socket, &health) => {}
    }
    health.set_serving(false).await;
    supervisor::stops();
    on_shutdown();
    // Nobody may be there to hear.
    let _ = stop.send(());
    if tokio::time::timeout(GRACE, stop.closed()).await.is_err() {
        tracing::warn!(grace = ?GRACE, "some calls did not end in time: abandoning them");
    }
    Ok(())
}

/// Takes connections as they come, for as long as there is something to take them from.
async fn accept(listening: Listening<impl Connections>, served: Served) {
    let mut incoming = pin!(listening.incoming);
    let mut told: Option<Instant> = None;
    while let Some(accepted) = poll_fn(|context| incoming.as_mut().poll_next(context)).await {
        match accepted {
            Ok(io) => {
                let shakes_hands = served.tls.is_some();
                if let Some(place) = served.traffic.enter(connection::peer(&io), shakes_hands) {
                    tokio::spawn(served.clone().run(io, place));
                }
            }
            Err(error) => {
                let error = error.into();
                if !is_shortage(&*error) {
                    // Whoever it was has gone again.
                    tracing::debug!(%error, "cannot accept a connection");
                    continue;
                }
                count(&served.traffic.counters.accepts_failed);
                if told.is_none_or(|told| told.elapsed() > TOLD_AGAIN) {
                    told = Some(Instant::now());
                    tracing::error!(
                        %error,
                        "cannot accept connections for now: raise the limit of open files (ulimit -n, LimitNOFILE), or find out what else uses them up"
                    );
                }
                served.traffic.give_way();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether an error is one of the machine, which comes again at once.
fn is_shortage(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustix::io::Errno;
    let code = error.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Answers at the socket in the data directory, where there is one.
async fn tell_how_it_is(socket: Option<HealthSocket>, health: &Health) {
    match socket {
        Some(socket) => socket.answer(health).await,
        None => pending().await,
    }
}

/// Keeps the certificates up to date, where there are any.
async fn keep(tls: Option<ServerTls>) {
    match tls {
        Some(tls) => tls.keep().await,
        None => pending().await,
    }
}

async fn look_after(traffic: &Traffic) {
    loop {
        tokio::time::sleep(LOOK).await;
        traffic.end_stuck();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_files_is_told_from_who_has_gone() {
        for (code, expected) in [(24, true), (23, true), (105, true), (12, true), (103, false)] {
            assert_eq!(
                is_shortage(&io::Error::from_raw_os_error(code)),
                expected,
                "{code}"
            );
        }
        assert!(!is_shortage(&io::Error::other("24")));
    }
}

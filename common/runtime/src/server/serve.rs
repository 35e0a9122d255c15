//! Serving, and stopping.

use std::future::Future;
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use super::{Health, Listening};

/// How often a client is pinged, streams or not.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long a ping may stay unanswered: then the connection is dropped, and its streams with it.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long open calls may go on after the shutdown has begun. Streams end themselves at once, so this is for
/// clients that do not read; with it a service is gone well within the 10 s after which supervisors kill.
const GRACE: Duration = Duration::from_secs(5);

/// Why a service is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors cannot be served.
    #[error("reflection cannot be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The socket failed.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
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
    shutdown: impl Future<Output = ()>,
    on_shutdown: impl FnOnce(),
) -> Result<(), ServeError> {
    let routes = routes
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(HealthServer::new(HealthService::from_health_reporter(
            health.reporter.clone(),
        )));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(listening.incoming, async {
            // Dropped or sent: both mean stop.
            let _ = stopped.await;
        });
    tokio::pin!(server);
    tokio::select! {
        biased;
        outcome = &mut server => return Ok(outcome?),
        () = shutdown => {}
    }
    health.set_serving(false).await;
    on_shutdown();
    drop(stop);
    match tokio::time::timeout(GRACE, server).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => {
            tracing::warn!(grace = ?GRACE, "some calls are still open: abandoning them");
            Ok(())
        }
    }
}

/// All that is served, and the details of errors, so that tools can show them in words.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
}

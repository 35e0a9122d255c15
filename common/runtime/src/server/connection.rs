//! One connection, from its acceptance to its end.

use std::any::Any;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::call;
use super::methods::Methods;
use super::traffic::{Connection, Place, Traffic, count};
use crate::audit::Audit;
use crate::tls::{Peer, ServerTls, Told};

/// How often a client is pinged, streams or not.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long a ping may stay unanswered: then the connection is dropped, and its streams with it.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client may send ahead on one stream, and on all of a connection, before it is read: requests are small, and a
/// large one is read as it comes.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// What HTTP/2 reads of a request's head, more than a call may have (`head.rs`): what is too large is refused in words, and not
/// by a bare status of HTTP that libraries take for a fault of the network. What is even beyond this gets just that (431), or,
/// four times as large, ends the connection: memory for it is in no account.
const HEADER_BYTES: u32 = 64 << 10;

/// Bytes by which a client shows that it speaks HTTP/2.
const PREFACE_BYTES: usize = 24;

/// How long a connection that is refused may take to hear why.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is read of one that is refused in its handshake: closed with bytes that nobody has read, it would not hear why.
const FAREWELL_BYTES: u64 = 64 << 10;

/// The first byte of a client that speaks TLS.
const TLS_RECORD: u8 = 0x16;

/// What every connection of a server is served with.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) routes: Routes,
    pub(super) methods: Arc<Methods>,
    pub(super) traffic: Arc<Traffic>,
    /// None where plain text is spoken.
    pub(super) tls: Option<ServerTls>,
    pub(super) told: Arc<Told>,
    pub(super) audit: Audit,
    /// Changes, or is dropped, when no more calls are taken.
    pub(super) stop: watch::Receiver<()>,
}

/// The address of who connects, where the network has addresses.
pub(super) fn peer(connection: &impl Connected) -> Option<IpAddr> {
    let info = connection.connect_info();
    let info: &dyn Any = &info;
    let tcp = info.downcast_ref::<TcpConnectInfo>()?;
    Some(tcp.remote_addr()?.ip())
}

impl Served {
    /// Serves a connection to its end.
    pub(super) async fn run<C>(self, io: C, place: Place)
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let info = io.connect_info();
        let Some(tls) = self.tls.clone() else {
            return self.speak(io, info, None, place).await;
        };
        let connection = Arc::clone(&place.0);
        let patience = connection.patience(self.traffic.limits.handshake());
        let mut stop = self.stop.clone();
        let shaken = tokio::select! {
            shaken = tls.shake_hands(io) => shaken,
            () = connection.close.notified() => {
                tracing::debug!("closing this connection to make room for another");
                return;
            }
            _ = stop.changed() => return,
            () = tokio::time::sleep(patience) => {
                count(&self.traffic.counters.handshakes_expired);
                tracing::debug!("a connection did not come to the end of the handshake in time");
                return;
            }
        };
        match shaken {
            Ok((io, peer)) => {
                place.has_shaken_hands();
                let peer = Arc::new(peer);
                let known = Arc::clone(&peer);
                tokio::select! {
                    () = self.clone().speak(io, info, Some(peer), place) => {}
                    why = tls.withdrawn(&known) => {
                        tracing::warn!(peer = %known.identity, "closing the connection of a client that {why}");
                    }
                }
            }
            Err((what, io)) => {
                count(&self.traffic.counters.handshakes_failed);
                tell_of_refusing(&self.told, &connection, &what);
                self.audit.turn_away(connection.peer, &what);
                if let Some(io) = io {
                    // It has been told; nobody waits longer than this for whether it hears.
                    let _ = tokio::time::timeout(FAREWELL, say_farewell(io)).await;
                }
            }
        }
    }

    /// Speaks HTTP/2 to the end of a connection.
    async fn speak<C, I>(self, io: C, info: I, peer: Option<Arc<Peer>>, place: Place)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        I: Clone + Send + Sync + 'static,
    {
        let Self {
            routes,
            methods,
            traffic,
            tls,
            told,
            audit,
            mut stop,
        } = self;
        let connection = Arc::clone(&place.0);
        let (io, read) = Counted::over(io);
        let service = {
            let connection = Arc::clone(&connection);
            service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(info.clone());
                if let Some(peer) = &peer {
                    request.extensions_mut().insert(Arc::clone(peer));
                }
                call::answer(
                    request,
                    routes.clone(),
                    Arc::clone(&methods),
                    audit.clone(),
                    Arc::clone(&connection),
                )
            })
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING_INTERVAL))
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_BYTES)
            .max_concurrent_streams(traffic.limits.max_calls_per_connection);
        let mut served = pin!(builder.serve_connection(TokioIo::new(io), service));
        let mut silent = pin!(tokio::time::sleep(
            connection.patience(traffic.limits.handshake())
        ));
        let (mut is_new, mut stops) = (true, false);
        loop {
            tokio::select! {
                ended = served.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                        if tls.is_none() && read.first() == Some(TLS_RECORD) {
                            let what = "speaks TLS, and this service does not: give it --tls-cert, --tls-key and --tls-client-ca, or \
                                        have the client speak plain text";
                            tell_of_refusing(&told, &connection, what);
                        }
                    }
                    return;
                }
                () = connection.close.notified() => {
                    tracing::debug!("closing this connection to make room for another");
                    return;
                }
                () = silent.as_mut(), if is_new => {
                    is_new = false;
                    if connection.refused.is_some() {
                        return;
                    }
                    if read.bytes() < PREFACE_BYTES {
                        count(&traffic.counters.handshakes_expired);
                        tracing::debug!("a connection did not start HTTP/2 in time");
                        return;
                    }
                }
                _ = stop.changed(), if !stops => {
                    stops = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

impl Connection {
    /// How long it may take to begin to speak; a refused one, to hear why.
    fn patience(&self, handshake: Duration) -> Duration {
        match self.refused {
            Some(_) => FAREWELL,
            None => handshake,
        }
    }
}

/// Says in the log why somebody does not come in.
fn tell_of_refusing(told: &Told, connection: &Connection, what: &str) {
    if let Some(kept_quiet) = told.may_say() {
        let peer = connection.peer.map(tracing::field::display);
        let more = (kept_quiet > 0).then_some(kept_quiet);
        tracing::warn!(peer, more_before_that = more, "a client is refused: it {what}");
    }
}

/// Lets the one at the other end hear why it is refused: what it still sends is read and forgotten.
async fn say_farewell<C: AsyncRead + AsyncWrite + Unpin>(mut io: C) -> io::Result<()> {
    io.shutdown().await?;
    tokio::io::copy(&mut io.take(FAREWELL_BYTES), &mut tokio::io::sink())
        .await
        .map(drop)
}

/// What was read of a connection.
#[derive(Default)]
struct Read {
    bytes: AtomicUsize,
    first: AtomicU8,
}

impl Read {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Its first byte.
    fn first(&self) -> Option<u8> {
        (self.bytes() > 0).then(|| self.first.load(Ordering::Relaxed))
    }
}

/// Counts what is read.
struct Counted<C> {
    inner: C,
    read: Arc<Read>,
}

impl<C> Counted<C> {
    fn over(inner: C) -> (Self, Arc<Read>) {
        let read = Arc::new(Read::default());
        let counted = Self {
            inner,
            read: Arc::clone(&read),
        };
        (counted, read)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, into);
        let new = &into.filled()[before..];
        if let Some(first) = new.first()
            && self.read.bytes() == 0
        {
            self.read.first.store(*first, Ordering::Relaxed);
        }
        self.read.bytes.fetch_add(new.len(), Ordering::Relaxed);
        polled
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

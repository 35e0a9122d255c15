//! The port for metrics: one page, for whoever is on this machine.
//!
//! A connection has one request, of 10 s from its beginning to its end, and where there are too many, the one that was there first
//! gives way: a page takes milliseconds, so who has been there for long is none that reads pages. All that a client can
//! have it do is one page at a time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use store::data_dir::{self, METRICS_ADDRESS};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinHandle};

use super::{Exporter, Meters};

/// Connections at a time: of those who measure, and a few people.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may take, from its beginning to its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large a request may be: hyper's least.
const MAX_REQUEST: usize = 8 << 10;

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The text format's type.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

// Its text is the setting's help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Port, or address and port, for metrics in Prometheus' text format, at /metrics; none are served without it. A port alone
    /// is on 127.0.0.1. There is no authentication and no TLS, so an address that is not loopback takes --insecure. Port 0 takes a free one, and
    /// `metrics-address` in the data directory names it.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    pub metrics_listen: Option<SocketAddr>,
}

impl MetricsSettings {
    /// Whether metrics may be served where these settings say.
    ///
    /// # Errors
    /// [`ListenerError::NotLoopback`].
    pub fn check(&self, insecure: bool) -> Result<(), ListenerError> {
        match self.metrics_listen {
            Some(asked) if !asked.ip().to_canonical().is_loopback() && !insecure => {
                Err(ListenerError::NotLoopback(asked))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => crate::settings::listen_address(text),
    }
}

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// Others than this machine could read them.
    #[error(
        "--metrics-listen {0} is not a loopback address, and metrics are served in plain text to everybody who asks: give 127.0.0.1 or [::1], or only a port, or --insecure"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had, or not be written down.
    #[error("cannot listen on --metrics-listen {0}")]
    Listen(SocketAddr, #[source] io::Error),
}

/// Serves metrics until it is dropped.
#[derive(Debug)]
pub struct Listener(JoinHandle<()>);

impl Listener {
    /// Serves what `exporter` has where `settings` say, if anywhere, on loopback only where it is not `insecure`, and writes the address to `metrics-address` in the data
    /// directory, which must be this process's by now. Within a tokio runtime.
    ///
    /// # Errors
    /// [`ListenerError`].
    pub fn start(
        settings: &MetricsSettings,
        insecure: bool,
        data_dir: &Path,
        exporter: Exporter,
        meters: Arc<Meters>,
    ) -> Result<Option<Self>, ListenerError> {
        let Some(asked) = settings.metrics_listen else {
            return Ok(None);
        };
        settings.check(insecure)?;
        let listen = || {
            let socket = std::net::TcpListener::bind(asked)?;
            socket.set_nonblocking(true)?;
            let listener = TcpListener::from_std(socket)?;
            data_dir::write_address(data_dir, METRICS_ADDRESS, listener.local_addr()?)?;
            Ok(listener)
        };
        let listener = listen().map_err(|error| ListenerError::Listen(asked, error))?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "metrics are served");
        }
        let pages = Arc::new(Pages {
            exporter,
            meters,
            turn: Mutex::new(()),
        });
        Ok(Some(Self(tokio::spawn(accept(listener, pages)))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(listener: TcpListener, pages: Arc<Pages>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // For want of files, or whoever it was has gone: the front door says which.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(first) = open.pop_front()
        {
            first.abort();
        }
        let pages = Arc::clone(&pages);
        let connection = tokio::spawn(async move {
            // One that is late, or broken, has nobody to be told.
            let _ = tokio::time::timeout(PATIENCE, serve(stream, pages)).await;
        });
        open.push_back(connection.abort_handle());
    }
}

async fn serve(stream: TcpStream, pages: Arc<Pages>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(&request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

struct Pages {
    exporter: Exporter,
    meters: Arc<Meters>,
    /// One page is made at a time.
    turn: Mutex<()>,
}

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let _turn = self.turn.lock().await;
                self.meters.page_asked_for();
                (StatusCode::OK, self.exporter.page().await)
            }
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, "the page is /metrics\n".to_owned()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n".to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
        response
    }
}

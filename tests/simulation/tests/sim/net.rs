//! The simulated network, as the services' and the clients' gRPC takes it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use runtime::client::{self, Connector};
use runtime::server::Listening;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::http::Uri;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use turmoil::net::{TcpListener, TcpStream};

/// Where every service listens.
pub(crate) const PORT: u16 = 54_320;

/// A connection as a server takes it.
pub(crate) struct Connection(TcpStream);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The node listens, and its connections come one after the other.
pub(crate) async fn listen() -> io::Result<Listening<UnboundedReceiverStream<io::Result<Connection>>>> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = TcpListener::bind(address).await?;
    let (connections, incoming) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if connections.send(Ok(Connection(stream))).is_err() {
                break;
            }
        }
    });
    Ok(Listening::over(UnboundedReceiverStream::new(incoming), address))
}

async fn dial(uri: Uri) -> io::Result<TokioIo<TcpStream>> {
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(PORT));
    Ok(TokioIo::new(TcpStream::connect((host, port)).await?))
}

/// How an engine reaches hosts.
pub(crate) fn connector() -> Connector {
    Connector::new(|endpoint: Endpoint| async move {
        endpoint.connect_with_connector(tower::service_fn(dial)).await
    })
}

/// A client's connection to a node, made when it is needed, and made again when it was lost.
pub(crate) fn channel(node: &str) -> Channel {
    let endpoint = client::endpoint(&address(node)).expect("a node's name and a port");
    endpoint.connect_with_connector_lazy(tower::service_fn(dial))
}

/// The address of a node.
pub(crate) fn address(node: &str) -> String {
    format!("{node}:{PORT}")
}

//! The socket, and the file that says where it is.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use store::data_dir::{self, ADDRESS, METRICS_ADDRESS};
use tonic::transport::server::TcpIncoming;

use super::health_socket::HealthSocket;
use super::limits::take_all_files;
use crate::audit::Audit;
use crate::tls::ServerTls;

/// A socket that listens.
#[derive(Debug)]
pub struct Listening<I = TcpIncoming> {
    pub(super) incoming: I,
    address: SocketAddr,
    pub(super) tls: Option<ServerTls>,
    pub(super) health: Option<HealthSocket>,
    pub(super) audit: Audit,
}

impl<I> Listening<I> {
    /// What listens on `address` already, and yields connections: another network, as in a simulation.
    pub fn over(incoming: I, address: SocketAddr) -> Self {
        Self {
            incoming,
            address,
            tls: None,
            health: None,
            audit: Audit::default(),
        }
    }

    /// With a lock on the door, if there is one: TLS, and nothing else, is spoken to who comes in. Who looks after the service
    /// on this machine has no certificate, and asks how it is at a socket in the data directory.
    ///
    /// # Errors
    /// [`io::Error`] if the socket cannot be made.
    pub fn locked(self, tls: Option<ServerTls>, data_dir: &Path) -> io::Result<Self> {
        let health = tls.is_some().then(|| HealthSocket::bind(data_dir)).transpose()?;
        Ok(Self { tls, health, ..self })
    }

    /// Where calls that change something, and refusals, are entered.
    #[must_use]
    pub fn audited(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The lock on the door; none where plain text is spoken.
    pub const fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listening {
    /// Listens on `addr` (port 0 takes a free one) and then writes the bound address to `address` in the data
    /// directory, by rename: who reads the file finds a service there, unless it was killed since. Within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`io::Error`] if the address is taken or the file cannot be written.
    pub fn bind(addr: SocketAddr, data_dir: &Path) -> io::Result<Self> {
        data_dir::make(data_dir)?;
        take_all_files();
        // Those that a killed process left would send clients astray while this one is still starting.
        for file in [ADDRESS, METRICS_ADDRESS] {
            match fs::remove_file(data_dir.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // Set here: `Server::tcp_nodelay` has no effect on a listener that is handed in, and without it small
        // frames stall for 40 ms.
        let incoming = TcpIncoming::bind(addr)?.with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        data_dir::write_address(data_dir, ADDRESS, address)?;
        Ok(Self::over(incoming, address))
    }
}

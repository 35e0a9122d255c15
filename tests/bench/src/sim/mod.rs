//! A simulated host: a server that speaks the host's whole side of the contract, and whose tasks do nothing.
//!
//! It accepts what an engine sends it and keeps the history of its tasks' states in memory. Its states move when
//! the bench says so, and its history can be held back and let go at once: then it streams as fast as the
//! engine takes it. Every state edge is a revision and a frame of its own: the strictest reading of the
//! contract, where a real host puts the edges of one input into one revision.

mod calls;
mod history;
mod stream;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proto::host::v1::host_service_server::HostServiceServer;
use proto::host::v1::storage_service_server::StorageServiceServer;
use proto::host::v1::task_service_server::TaskServiceServer;
use tests::{Context as _, Failure, TestResult};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

pub(crate) use history::History;

/// A host that serves until this is dropped.
#[derive(Debug)]
pub(crate) struct SimulatedHost {
    /// As it is configured.
    pub(crate) host_id: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its tasks.
    pub(crate) history: Arc<History>,
    server: JoinHandle<()>,
}

impl SimulatedHost {
    /// Starts one on a port of its own.
    ///
    /// # Errors
    /// Where it cannot bind.
    pub(crate) fn start() -> TestResult<Self> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let incoming = TcpIncoming::bind(any_port)
            .map_err(|error| Failure::new(format!("a simulated host: {error}")))?
            .with_nodelay(Some(true));
        let address = incoming.local_addr().context("a simulated host")?;
        let host_id = tests::ids::fresh();
        let history = Arc::new(History::new());
        let calls = calls::Calls::new(host_id.clone(), Arc::clone(&history));
        let serve = Server::builder()
            .add_service(TaskServiceServer::new(calls.clone()))
            .add_service(StorageServiceServer::new(calls.clone()))
            .add_service(HostServiceServer::new(calls))
            .serve_with_incoming(incoming);
        let server = tokio::spawn(async {
            // It ends only with the bench, and an engine that misses it says so.
            let _ = serve.await;
        });
        Ok(Self {
            host_id,
            address,
            history,
            server,
        })
    }
}

impl Drop for SimulatedHost {
    fn drop(&mut self) {
        self.server.abort();
    }
}

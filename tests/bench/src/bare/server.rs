//! A tonic server in a process of its own, as the services have one: a unary call in front of redb's group commit,
//! and a stream.

use std::net::SocketAddr;
use std::path::Path;

use proto::vdsm::v1 as vdsm;
use proto::vdsm::v1::task_service_server::{TaskService, TaskServiceServer};
use tests::{Context as _, Failure, Outcome};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::commit::BareStore;
use super::hop;
use super::writer::Writer;
use crate::records;

/// Serves until the process is killed. Where it listens is written to `DATA_DIR/address`, as the services do it.
///
/// # Errors
/// Where it cannot bind or write.
pub(crate) async fn serve(listen: SocketAddr, data_dir: &Path) -> Outcome<()> {
    let writer = Writer::over(BareStore::create(data_dir)?);
    let incoming = TcpIncoming::bind(listen)
        .map_err(|error| Failure::new(format!("binding {listen}: {error}")))?
        .with_nodelay(Some(true));
    let bound = incoming.local_addr().context("the bound address")?;
    // By rename, so that nobody reads half of it.
    let unfinished = data_dir.join("address.new");
    std::fs::write(&unfinished, bound.to_string())?;
    std::fs::rename(unfinished, data_dir.join("address"))?;
    Server::builder()
        .add_service(TaskServiceServer::new(Bare { writer }))
        .serve_with_incoming(incoming)
        .await
        .context("serving")
}

#[derive(Debug)]
struct Bare {
    writer: Writer,
}

#[tonic::async_trait]
impl TaskService for Bare {
    type WatchTasksStream = hop::Frames;

    async fn start_task(
        &self,
        request: Request<vdsm::StartTaskRequest>,
    ) -> Result<Response<vdsm::StartTaskResponse>, Status> {
        let vdsm::StartTaskRequest { task_id, operation } = request.into_inner();
        let task = records::host_task(task_id, operation);
        let recorded = self.writer.record(&task).await;
        recorded.ok_or_else(|| Status::unavailable("the writer is gone"))?;
        Ok(Response::new(vdsm::StartTaskResponse {
            task: Some(task),
            token: records::TOKEN.to_owned(),
        }))
    }

    async fn watch_tasks(
        &self,
        _: Request<vdsm::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        Ok(Response::new(hop::frames()))
    }

    async fn get_task(
        &self,
        _: Request<vdsm::GetTaskRequest>,
    ) -> Result<Response<vdsm::GetTaskResponse>, Status> {
        Err(unserved())
    }

    async fn list_tasks(
        &self,
        _: Request<vdsm::ListTasksRequest>,
    ) -> Result<Response<vdsm::ListTasksResponse>, Status> {
        Err(unserved())
    }

    async fn abort_task(
        &self,
        _: Request<vdsm::AbortTaskRequest>,
    ) -> Result<Response<vdsm::AbortTaskResponse>, Status> {
        Err(unserved())
    }

    async fn clear_task(
        &self,
        _: Request<vdsm::ClearTaskRequest>,
    ) -> Result<Response<vdsm::ClearTaskResponse>, Status> {
        Err(unserved())
    }
}

fn unserved() -> Status {
    Status::unimplemented("the bare parts serve only what is measured")
}

//! A tonic server in a process of its own, as the services have one, with reflection and health as they have it: a
//! unary call in front of redb's group commit, a stream, and one that many watch.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use proto::engine::v1::task_service_server::TaskServiceServer as EngineTaskServiceServer;
use proto::host::v1 as vdsm;
use proto::host::v1::task_service_server::{TaskService, TaskServiceServer};
use tests::{Context as _, Failure, TestResult};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::commit::BareStore;
use super::fan_out::FanOut;
use super::hop;
use super::writer::Writer;
use crate::records;

/// Serves until the process is killed. Where it listens is written to `DATA_DIR/address`, as the services do it.
///
/// # Errors
/// Where it cannot bind or write.
pub async fn serve(listen: SocketAddr, data_dir: &Path, edge_micros: Option<u64>) -> TestResult<()> {
    let incoming = TcpIncoming::bind(listen)
        .map_err(|error| Failure::new(format!("binding {listen}: {error}")))?
        .with_nodelay(Some(true));
    let bound = incoming.local_addr().context("the bound address")?;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let watched = FanOut::start(data_dir, edge_micros.map(Duration::from_micros))?;
    let server = Server::builder()
        .add_service(reflection().build_v1().map_err(Failure::new)?)
        .add_service(reflection().build_v1alpha().map_err(Failure::new)?)
        .add_service(health)
        .add_service(TaskServiceServer::new(Bare {
            data_dir: data_dir.to_owned(),
            writer: OnceLock::new(),
        }))
        .add_service(EngineTaskServiceServer::new(watched));
    // By rename, so that nobody reads half of it.
    let unfinished = data_dir.join("address.new");
    std::fs::write(&unfinished, bound.to_string())?;
    std::fs::rename(unfinished, data_dir.join("address"))?;
    server.serve_with_incoming(incoming).await.context("serving")
}

/// As the services have it.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
}

#[derive(Debug)]
struct Bare {
    data_dir: PathBuf,
    /// Made at the first call: a server that only idles has no database.
    writer: OnceLock<Option<Writer>>,
}

impl Bare {
    fn writer(&self) -> Result<&Writer, Status> {
        let open = || BareStore::create(&self.data_dir).ok().map(Writer::over);
        let writer = self.writer.get_or_init(open).as_ref();
        writer.ok_or_else(|| Status::unavailable("there is no database"))
    }
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
        let recorded = self.writer()?.record(&task).await;
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

pub(super) fn unserved() -> Status {
    Status::unimplemented("the bare parts serve only what is measured")
}

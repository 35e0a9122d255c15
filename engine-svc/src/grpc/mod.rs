//! The gRPC services: they decode, call and encode. Only [`runtime::status`] turns errors into statuses.

pub(crate) mod api;
mod audit;
mod command;
mod disk;
mod domain;
mod engine;
mod event;
mod feed;
pub(crate) mod field;
mod filter;
mod host;
mod job;
mod list;
pub(crate) mod show;
mod task;
mod vm;
pub(crate) mod wait;
mod watching;

use proto::engine::v1::command_service_server::CommandServiceServer;
use proto::engine::v1::disk_service_server::DiskServiceServer;
use proto::engine::v1::engine_service_server::EngineServiceServer;
use proto::engine::v1::event_service_server::EventServiceServer;
use proto::engine::v1::host_service_server::HostServiceServer;
use proto::engine::v1::job_service_server::JobServiceServer;
use proto::engine::v1::storage_domain_service_server::StorageDomainServiceServer;
use proto::engine::v1::task_service_server::TaskServiceServer;
use proto::engine::v1::vm_service_server::VmServiceServer;
use runtime::served;
use tonic::service::{Routes, RoutesBuilder};

use self::api::Api;

/// The full names of the services, as health and reflection know them.
pub(crate) const SERVICES: [&str; 9] = [
    "vdsm_engine.engine.v1.CommandService",
    "vdsm_engine.engine.v1.DiskService",
    "vdsm_engine.engine.v1.EngineService",
    "vdsm_engine.engine.v1.EventService",
    "vdsm_engine.engine.v1.HostService",
    "vdsm_engine.engine.v1.JobService",
    "vdsm_engine.engine.v1.StorageDomainService",
    "vdsm_engine.engine.v1.TaskService",
    "vdsm_engine.engine.v1.VmService",
];

/// All services.
pub(crate) fn routes(api: &Api) -> Routes {
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(served!(CommandServiceServer::new(api.clone())))
        .add_service(served!(DiskServiceServer::new(api.clone())))
        .add_service(served!(EngineServiceServer::new(api.clone())))
        .add_service(served!(EventServiceServer::new(api.clone())))
        .add_service(served!(HostServiceServer::new(api.clone())))
        .add_service(served!(JobServiceServer::new(api.clone())))
        .add_service(served!(StorageDomainServiceServer::new(api.clone())))
        .add_service(served!(TaskServiceServer::new(api.clone())))
        .add_service(served!(VmServiceServer::new(api.clone())));
    routes.routes()
}

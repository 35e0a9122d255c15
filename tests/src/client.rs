//! Typed clients of both services, over one connection each that comes back by itself.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use proto::task::v1::Fault;
use proto::{engine::v1 as engine, host::v1 as vdsm};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use crate::failure::{Context, TestResult};

/// How long a connection may take to come about, and a ping to be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the connection is probed, so that a peer that vanished without a word is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that an engine serves.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The connection, for watches.
    pub channel: Channel,
    /// A client of VmService.
    pub vms: engine::vm_service_client::VmServiceClient<Channel>,
    /// A client of DiskService.
    pub disks: engine::disk_service_client::DiskServiceClient<Channel>,
    /// A client of StorageDomainService.
    pub domains: engine::storage_domain_service_client::StorageDomainServiceClient<Channel>,
    /// A client of HostService.
    pub hosts: engine::host_service_client::HostServiceClient<Channel>,
    /// A client of CommandService.
    pub commands: engine::command_service_client::CommandServiceClient<Channel>,
    /// A client of TaskService.
    pub tasks: engine::task_service_client::TaskServiceClient<Channel>,
    /// A client of JobService.
    pub jobs: engine::job_service_client::JobServiceClient<Channel>,
    /// A client of EngineService.
    pub engine: engine::engine_service_client::EngineServiceClient<Channel>,
    /// A client of EventService.
    pub events: engine::event_service_client::EventServiceClient<Channel>,
}

impl Engine {
    /// Speaks to the engine at this address, whenever it is there.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn at(address: SocketAddr) -> TestResult<Self> {
        Ok(Self::over(channel(address)?))
    }

    /// Speaks to the engine at the other end of a channel.
    pub fn over(channel: Channel) -> Self {
        Self {
            vms: engine::vm_service_client::VmServiceClient::new(channel.clone()),
            disks: engine::disk_service_client::DiskServiceClient::new(channel.clone()),
            domains: engine::storage_domain_service_client::StorageDomainServiceClient::new(channel.clone()),
            hosts: engine::host_service_client::HostServiceClient::new(channel.clone()),
            commands: engine::command_service_client::CommandServiceClient::new(channel.clone()),
            tasks: engine::task_service_client::TaskServiceClient::new(channel.clone()),
            jobs: engine::job_service_client::JobServiceClient::new(channel.clone()),
            engine: engine::engine_service_client::EngineServiceClient::new(channel.clone()),
            events: engine::event_service_client::EventServiceClient::new(channel.clone()),
            channel,
        }
    }
}

/// Everything that a host serves.
#[derive(Debug, Clone)]
pub struct Host {
    /// The connection, for watches.
    pub channel: Channel,
    /// A client of TaskService.
    pub tasks: vdsm::task_service_client::TaskServiceClient<Channel>,
    /// A client of StorageService.
    pub storage: vdsm::storage_service_client::StorageServiceClient<Channel>,
    /// A client of HostService.
    pub host: vdsm::host_service_client::HostServiceClient<Channel>,
}

impl Host {
    /// Speaks to the host at this address, whenever it is there.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn at(address: SocketAddr) -> TestResult<Self> {
        Ok(Self::over(channel(address)?))
    }

    /// Speaks to the host at the other end of a channel.
    pub fn over(channel: Channel) -> Self {
        Self {
            tasks: vdsm::task_service_client::TaskServiceClient::new(channel.clone()),
            storage: vdsm::storage_service_client::StorageServiceClient::new(channel.clone()),
            host: vdsm::host_service_client::HostServiceClient::new(channel.clone()),
            channel,
        }
    }
}

/// A connection that is made when it is needed, and made again when it was lost.
pub(crate) fn channel(address: SocketAddr) -> TestResult<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .context("an endpoint")?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(CONNECT_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// A request with metadata.
///
/// # Panics
/// On a value that is no metadata: the tests' own values are.
pub fn with_metadata<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        let value: AsciiMetadataValue = value.parse().expect("printable ASCII");
        request.metadata_mut().insert(*key, value);
    }
    request
}

/// A refusal as programs read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: tonic::Code,
    /// `ErrorInfo.reason`, the stable code; empty where there is none.
    pub reason: String,
    /// The paths of the fields that are wrong.
    pub fields: Vec<String>,
    /// Our own fault; its code is empty where there is none.
    pub fault: Fault,
}

impl From<&tonic::Status> for Refusal {
    fn from(status: &tonic::Status) -> Self {
        let violations = status.get_details_bad_request().into_iter();
        Self {
            code: status.code(),
            reason: status
                .get_details_error_info()
                .map(|info| info.reason)
                .unwrap_or_default(),
            fields: violations
                .flat_map(|bad| bad.field_violations)
                .map(|violation| violation.field)
                .collect(),
            fault: detail(status, "type.googleapis.com/vdsm_engine.task.v1.Fault").unwrap_or_default(),
        }
    }
}

/// A message among the details of a status.
pub fn detail<M: prost::Message + Default>(status: &tonic::Status, type_url: &str) -> Option<M> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let any = details.into_iter().find(|any| any.type_url == type_url)?;
    M::decode(any.value.as_slice()).ok()
}

//! The RPCs: they read the request, ask the coordinator or the store, and answer. No decision is made here.

// A Status is what every RPC answers with, as tonic declares it.
#![allow(clippy::result_large_err)]

mod feed;
mod fenced;
mod filter;
mod host_service;
mod probe;
mod request;
mod storage;
mod storage_service;
mod storage_wire;
mod task_request;
mod task_service;

use std::sync::{Arc, OnceLock};

use common::fault::{Fault, FaultCode};
use common::id::HostId;
use common::time::Timestamp;
use proto::host::v1::host_service_server::HostServiceServer;
use proto::host::v1::storage_service_server::StorageServiceServer;
use proto::host::v1::task_service_server::TaskServiceServer;
use proto::store::v1::HostHistory;
use runtime::coordinator::{Answer, Handle};
use runtime::log::Log;
use runtime::served;
use runtime::watch::Terms;
use runtime::{metadata, status};
use tonic::Status;
use tonic::service::Routes;
use vdsm_core::{Caller, EngineCall, Input, Refusal, Reply};
use vdsm_storage::NamedRoot;

use self::host_service::Hosts;
use self::storage::Lanes;
use self::storage_service::Storage;
use self::task_service::Tasks;
use crate::alive::Alive;
use crate::presence::Presence;
use crate::store::HostMachine;

/// The names of the services for health checks.
pub(crate) const SERVICES: [&str; 3] = [
    "vdsm_engine.host.v1.TaskService",
    "vdsm_engine.host.v1.HostService",
    "vdsm_engine.host.v1.StorageService",
];

/// A loaded host.
pub(crate) struct Host {
    pub(crate) coordinator: Handle<HostMachine>,
    pub(crate) log: Arc<Log<HostHistory>>,
    pub(crate) root: Arc<NamedRoot>,
    pub(crate) alive: Arc<Alive>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) facts: Facts,
    pub(crate) watches: Terms,
}

/// Values that do not change while the service runs.
pub(crate) struct Facts {
    pub(crate) host_id: HostId,
    pub(crate) qemu_img_version: String,
    pub(crate) start_time: Timestamp,
}

/// Closed until the host is loaded.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<OnceLock<Host>>);

impl Gate {
    /// Opens the gate with the loaded host. Only the first call counts.
    pub(crate) fn open(&self, host: Host) -> bool {
        self.0.set(host).is_ok()
    }

    /// The host.
    ///
    /// # Errors
    /// `UNAVAILABLE` (`LOADING`).
    pub(crate) fn host(&self) -> Result<&Host, Status> {
        self.0.get().ok_or_else(|| {
            let message = "the host is still loading its tasks: try again in a moment";
            status::from_fault(&Fault::new(FaultCode::Loading, message))
        })
    }
}

/// All services, behind one gate.
pub(crate) fn routes(gate: &Gate) -> Routes {
    let lanes = Arc::new(Lanes::default());
    Routes::new(served!(TaskServiceServer::new(Tasks::new(gate.clone()))))
        .add_service(served!(HostServiceServer::new(Hosts::new(
            gate.clone(),
            lanes.another()
        ))))
        .add_service(served!(StorageServiceServer::new(Storage::new(
            gate.clone(),
            lanes
        ))))
}

impl Host {
    /// Sends an input to the machine and waits until its outcome is durable.
    async fn ask(&self, input: Input) -> Result<Answer<Reply>, Status> {
        let answer = self.coordinator.call(input).await;
        answer.map_err(status::from_refusal)
    }
}

impl Host {
    /// Logs, at most once a minute for each engine, that an engine is refused because the host is not its own.
    fn tell_of_refusing(&self, who: &metadata::Caller, rpc: &'static str, fault: &Fault) {
        let is_of_whose = matches!(
            fault.code,
            FaultCode::HostOwned
                | FaultCode::HostNotOwned
                | FaultCode::EngineFenced
                | FaultCode::EngineStillConnected
        );
        let engine = caller(who).engine.filter(|_| is_of_whose);
        if let Some(call) = engine.filter(|call| self.presence.tells_of_refusing(call)) {
            let incarnation = call.incarnation.map(tracing::field::display);
            tracing::warn!(
                rpc, engine_id = %call.engine_id, epoch = call.epoch, incarnation, user = who.user, %fault,
                "an engine is refused"
            );
        }
    }
}

/// The caller, in the form that the machine expects.
fn caller(caller: &metadata::Caller) -> Caller {
    Caller {
        engine: caller.engine.map(|engine| EngineCall {
            engine_id: engine.engine_id,
            epoch: engine.epoch,
            incarnation: engine.incarnation,
            store_id: engine.store_id,
        }),
    }
}

/// The status of a refusal that gives no verdict on a task.
fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Fault(fault) => status::from_fault(fault),
        Refusal::LookAgain => status::from_fault(&Fault::new(
            FaultCode::StoreUnavailable,
            "the host is too busy to look up this id: try again",
        )),
    }
}

/// The machine answered with a kind of reply that this input never gets.
fn unexpected() -> Status {
    status::from_fault(&Fault::new(
        FaultCode::Internal,
        "the host gave an unexpected answer; please report it",
    ))
}

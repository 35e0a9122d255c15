//! Performs one effect on a connected host, and returns the result as an input of the engine.
//!
//! Every call is safe to repeat: ids are the caller's, and the host answers a repeat with the present state.
//! Therefore a call without an answer is repeated with back-off until [`TRIES`] are spent or the connection is gone.
//! After a reconnection the engine derives anew what is outstanding.

use std::sync::Arc;
use std::time::Duration;

use common::Start;
use common::fault::{Fault, FaultCode};
use common::id::{HostId, StoreId, TaskId};
use engine_core::effect::Effect;
use engine_core::input::{Attempt, HostTask, Input};
use engine_core::model::HostCall;
use proto::convert;
use proto::host::v1::host_service_client::HostServiceClient;
use proto::host::v1::storage_service_client::StorageServiceClient;
use proto::host::v1::task_service_client::TaskServiceClient;
use proto::host::v1::{
    AbortTaskRequest, ClaimHostRequest, ClearTaskRequest, CreateStorageDomainRequest, ReleaseHostRequest,
    StartTaskRequest, Task,
};
use runtime::metadata::EngineCall;
use runtime::{clock, failpoint, status};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::debug;

use super::backoff::{Backoff, CALL_CAP, FULL_CAP};
use super::pages::ReadError;
use super::refusal::Refusal;
use super::room::Room;
use super::session::TakeOver;
use super::{Context, HostFull, frame, inventory, observation, probe};

/// The number of attempts without an answer after which the engine is told that they are spent.
pub(super) const TRIES: u32 = 8;

/// How long a call about a task may take: the host answers after one commit of its own.
const TASK_DEADLINE: Duration = Duration::from_secs(10);

/// How long a call that works on storage may take.
const STORAGE_DEADLINE: Duration = Duration::from_secs(60);

/// How long looking through all of a host's storage may take.
const INVENTORY_DEADLINE: Duration = Duration::from_secs(1_800);

/// Values that all calls to one connected host share.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) host_id: HostId,
    /// The store that the host answered with at the connection.
    pub(super) store_id: StoreId,
    /// The start of the host at the connection, which is that start's alone.
    pub(super) start: Start,
    pub(super) channel: Channel,
    pub(super) call: EngineCall,
    /// The claim of the host, which depends on whose it was at the connection.
    pub(super) claim: ClaimHostRequest,
}

/// The bounds of the calls to one connected host.
#[derive(Debug)]
pub(super) struct Limits {
    /// One permit for each call under way.
    pub(super) places: Semaphore,
    /// Where a call waits that was refused for want of room.
    pub(super) room: Arc<Room>,
}

/// The result of an effect.
#[derive(Debug)]
pub(super) enum CallEnd {
    /// An input for the engine.
    Said(Input),
    /// The engine has to hear nothing.
    Nothing,
    /// The effect was not performed, because another effect is wanted instead.
    Superseded,
}

impl From<Option<Input>> for CallEnd {
    fn from(input: Option<Input>) -> Self {
        input.map_or(Self::Nothing, Self::Said)
    }
}

/// Performs `effect`, as often as needed, or until another effect is `wanted` in its place: then the attempt under
/// way is the last one. A call that waits between two attempts holds no permit.
///
/// # Errors
/// The reason why the connection ends: a failure of the transport, or another owner.
pub(super) async fn perform(
    context: &Context,
    connection: &Connection,
    effect: &Effect,
    wanted: &mut watch::Receiver<Effect>,
    Limits { places, room }: &Limits,
) -> Result<CallEnd, Refusal> {
    let mut backoff = Backoff::new(CALL_CAP);
    let mut until_room = Backoff::new(FULL_CAP);
    let mut tries = 0_u32;
    // Shown until this call is over, however often the host refuses it.
    let mut waits_for_room = None;
    loop {
        let seen = room.seen();
        let answer = {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            attempt(connection, effect).await
        };
        failpoint::hit(after(effect));
        let refusal = match answer {
            Ok(input) => return Ok(input.into()),
            Err(error) => Refusal::from(error),
        };
        let is_final = matches!(refusal, Refusal::Final(_));
        let fault = match refusal {
            Refusal::Lost(_) | Refusal::Owned(_) | Refusal::Fenced(_) | Refusal::PutOff(_) => {
                return Err(refusal);
            }
            // The host's queue will empty, or its disk will be given room: waiting for that is no failure.
            Refusal::Full(fault) => {
                debug!(kind = kind(effect), %fault, "the host's queue is full; asking again");
                if let (Effect::StartTask { task_id, .. }, None) = (effect, &waits_for_room) {
                    let (host_id, since) = (connection.host_id, clock::now());
                    let full = HostFull {
                        host_id,
                        fault,
                        since,
                    };
                    waits_for_room = Some(context.links.waits_for_room(*task_id, full));
                }
                let rested = tokio::select! {
                    biased;
                    rested = rest(until_room.wait(), wanted) => rested,
                    () = room.freed(seen) => Rested::Whole,
                };
                match rested {
                    Rested::Superseded => return Ok(CallEnd::Superseded),
                    Rested::Whole => continue,
                }
            }
            Refusal::Unclear(fault) => fault,
            Refusal::Answer(fault) | Refusal::Final(fault) => match verdict(effect, &fault, is_final) {
                Some(input) => return Ok(CallEnd::Said(input)),
                None => fault,
            },
        };
        tries += 1;
        debug!(kind = kind(effect), tries, %fault, "the host gave no final answer; asking again");
        // A clear blocks nobody, so it is tried as long as the connection lives.
        let endless = matches!(effect, Effect::ClearTask { .. });
        if tries >= TRIES && !endless && !wanted.has_changed().unwrap_or(false) {
            return spent(connection, effect, fault).map(CallEnd::from);
        }
        if let (Effect::ClearTask { task_id, .. }, 1) = (effect, tries) {
            let (task_id, fault) = (*task_id, fault.clone());
            let _ = context.engine.send(Input::ClearFailed { task_id, fault }).await;
        }
        if let Rested::Superseded = rest(backoff.wait(), wanted).await {
            return Ok(CallEnd::Superseded);
        }
        context.links.tally().asks_again();
    }
}

/// How a pause between two attempts ended.
enum Rested {
    /// The pause is over: time for the next attempt.
    Whole,
    /// Another effect is wanted by now.
    Superseded,
}

async fn rest(time: Duration, wanted: &mut watch::Receiver<Effect>) -> Rested {
    tokio::select! {
        biased;
        // The sender may be gone already when the connection ends; then no other order can come.
        Ok(()) = wanted.changed() => Rested::Superseded,
        () = tokio::time::sleep(time) => Rested::Whole,
    }
}

/// Makes one attempt, with a deadline: an answer that does not come says nothing.
async fn attempt(connection: &Connection, effect: &Effect) -> Result<Option<Input>, ReadError> {
    let deadline = match effect {
        Effect::StartTask { .. } | Effect::AbortTask { .. } | Effect::ClearTask { .. } => TASK_DEADLINE,
        Effect::TakeInventory { .. } => INVENTORY_DEADLINE,
        _ => STORAGE_DEADLINE,
    };
    let late = || Status::deadline_exceeded(format!("no answer within {} s", deadline.as_secs()));
    timeout(deadline, connection.ask(effect))
        .await
        .unwrap_or_else(|_| Err(late().into()))
}

impl Connection {
    async fn ask(&self, effect: &Effect) -> Result<Option<Input>, ReadError> {
        match effect {
            Effect::StartTask {
                task_id,
                operation,
                store_id,
                correlation_id,
                ..
            } => {
                let request = StartTaskRequest {
                    task_id: task_id.to_string(),
                    operation: Some(convert::operation_to_wire(operation)),
                };
                let request = self.request(request, *store_id, Some(correlation_id));
                let answer = self.tasks().start_task(request).await?.into_inner();
                Ok(Some(Input::StartAccepted {
                    task_id: *task_id,
                    store_id: store_id.unwrap_or(self.store_id),
                    start: self.start,
                    over: over(answer.task),
                }))
            }
            Effect::AbortTask {
                task_id,
                store_id,
                correlation_id,
                ..
            } => {
                let task = task_id.to_string();
                let request = AbortTaskRequest { task_id: task };
                let request = self.request(request, *store_id, Some(correlation_id));
                let answer = self.tasks().abort_task(request).await?.into_inner();
                Ok(Some(Input::AbortAccepted {
                    task_id: *task_id,
                    store_id: store_id.unwrap_or(self.store_id),
                    start: self.start,
                    over: over(answer.task),
                }))
            }
            Effect::ClearTask {
                task_id,
                correlation_id,
                ..
            } => {
                let task = task_id.to_string();
                let request = ClearTaskRequest { task_id: task };
                let request = self.request(request, None, Some(correlation_id));
                let answer = match self.tasks().clear_task(request).await {
                    Ok(answer) => answer.into_inner(),
                    Err(status) => {
                        self.stop_what_is_over_here(*task_id, correlation_id, &status)
                            .await?;
                        return Err(status.into());
                    }
                };
                Ok(Some(Input::Cleared {
                    task_id: *task_id,
                    sequence: answer.task.map(|task| task.sequence),
                }))
            }
            Effect::Call {
                command_id,
                call,
                correlation_id,
                ..
            } => {
                self.call(call, Some(correlation_id.as_str())).await?;
                Ok(Some(Input::CallAnswered {
                    command_id: *command_id,
                    call: call.clone(),
                    result: Ok(()),
                }))
            }
            Effect::Reclaim { .. } => {
                self.call(&HostCall::Claim, None).await?;
                Ok(None)
            }
            Effect::ProbeTask {
                task_id,
                operation,
                correlation_id,
                ..
            } => {
                let request = self.request(probe::request(*task_id, operation), None, Some(correlation_id));
                Ok(Some(probe::look(self.channel.clone(), *task_id, request).await?))
            }
            Effect::ObserveDisk {
                disk_id, domain_id, ..
            } => {
                let seen = observation::observe(self.channel.clone(), *disk_id, *domain_id).await?;
                Ok(seen.map(|(presence, note)| Input::DiskObserved {
                    disk_id: *disk_id,
                    presence,
                    note: note.into(),
                }))
            }
            Effect::TakeInventory { host_id, before } => {
                let inventory = inventory::take(self.channel.clone()).await?;
                Ok(Some(Input::InventoryTaken {
                    host_id: *host_id,
                    inventory,
                    before: before.clone(),
                }))
            }
            // These effects make no call.
            Effect::Follow { .. } | Effect::Unfollow { .. } | Effect::Resync { .. } => Ok(None),
        }
    }

    /// `by` is the correlation id of the command behind the call.
    async fn call(&self, call: &HostCall, by: Option<&str>) -> Result<(), Status> {
        let mut host = HostServiceClient::new(self.channel.clone());
        match call {
            HostCall::Claim => {
                host.claim_host(self.request(self.claim.clone(), None, by))
                    .await?;
            }
            HostCall::TakeOver {
                user,
                reason,
                correlation_id,
            } => {
                let decided = TakeOver {
                    user: user.clone(),
                    reason: reason.clone(),
                    correlation_id: correlation_id.clone(),
                };
                host.claim_host(self.request(decided.claim(), None, Some(correlation_id)))
                    .await?;
            }
            HostCall::Release => {
                host.release_host(self.request(ReleaseHostRequest {}, None, by))
                    .await?;
            }
            HostCall::CreateDomain { domain_id, name } => {
                let request = CreateStorageDomainRequest {
                    domain_id: domain_id.to_string(),
                    name: name.clone(),
                };
                let mut storage = StorageServiceClient::new(self.channel.clone());
                storage
                    .create_storage_domain(self.request(request, None, by))
                    .await?;
            }
        }
        Ok(())
    }

    /// A host that was restored from an older copy may have a task again that is over. The host holds the task until
    /// the engine sends it again; once stopped, it can be cleared.
    async fn stop_what_is_over_here(
        &self,
        task_id: TaskId,
        correlation_id: &str,
        refusal: &Status,
    ) -> Result<(), Status> {
        let unfinished =
            status::fault_of(refusal).is_some_and(|(fault, _)| fault.code == FaultCode::TaskNotFinished);
        if unfinished {
            let task_id = task_id.to_string();
            let request = self.request(AbortTaskRequest { task_id }, None, Some(correlation_id));
            self.tasks().abort_task(request).await?;
        }
        Ok(())
    }

    fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T, store_id: Option<StoreId>, correlation_id: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        let call = EngineCall {
            store_id: store_id.or(self.call.store_id),
            ..self.call
        };
        call.attach(&mut request, correlation_id.filter(|id| !id.is_empty()));
        request
    }
}

/// The record of a task that is over.
fn over(task: Option<Task>) -> Option<Box<HostTask>> {
    let task = task.and_then(frame::task);
    task.filter(|task| task.removed || task.state.is_terminal())
        .map(Box::new)
}

/// The verdict of an answer; none if the answer decides nothing. Only a final answer decides about the start of a
/// task.
fn verdict(effect: &Effect, fault: &Fault, is_final: bool) -> Option<Input> {
    let fault = fault.clone();
    match effect {
        Effect::StartTask { task_id, .. } => is_final.then_some(Input::StartRefused {
            task_id: *task_id,
            fault,
        }),
        Effect::AbortTask { task_id, .. } => {
            (fault.code == FaultCode::TaskNotAbortable).then_some(Input::AbortRefused {
                task_id: *task_id,
                fault,
            })
        }
        Effect::Call { command_id, call, .. } => Some(Input::CallAnswered {
            command_id: *command_id,
            call: call.clone(),
            result: Err(fault),
        }),
        Effect::ClearTask { .. }
        | Effect::ProbeTask { .. }
        | Effect::ObserveDisk { .. }
        | Effect::TakeInventory { .. }
        | Effect::Reclaim { .. }
        | Effect::Follow { .. }
        | Effect::Unfollow { .. }
        | Effect::Resync { .. } => None,
    }
}

/// What follows if all attempts were in vain.
fn spent(connection: &Connection, effect: &Effect, fault: Fault) -> Result<Option<Input>, Refusal> {
    let what = match effect {
        Effect::StartTask { task_id, .. }
        | Effect::AbortTask { task_id, .. }
        | Effect::ProbeTask { task_id, .. } => Attempt::Task(*task_id),
        Effect::Call { command_id, .. } => Attempt::Call(*command_id),
        // Nothing that comes after a reclaim can be done without it.
        Effect::Reclaim { .. } => return Err(Refusal::Lost(fault)),
        _ => return Ok(None),
    };
    Ok(Some(Input::RetriesSpent {
        host_id: connection.host_id,
        what,
        fault,
    }))
}

/// The kind of an effect, for logs.
pub(super) const fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Follow { .. } => "follow",
        Effect::Unfollow { .. } => "unfollow",
        Effect::Reclaim { .. } => "reclaim",
        Effect::StartTask { .. } => "start_task",
        Effect::AbortTask { .. } => "abort_task",
        Effect::ClearTask { .. } => "clear_task",
        Effect::Call { .. } => "call",
        Effect::ProbeTask { .. } => "probe_task",
        Effect::ObserveDisk { .. } => "observe_disk",
        Effect::TakeInventory { .. } => "take_inventory",
        Effect::Resync { .. } => "resync",
    }
}

/// The point at which tests kill the process: the host has answered, and the engine has not heard it.
const fn after(effect: &Effect) -> &'static str {
    match effect {
        Effect::StartTask { .. } => "effect.after/start_task",
        Effect::AbortTask { .. } => "effect.after/abort_task",
        Effect::ClearTask { .. } => "effect.after/clear_task",
        Effect::Reclaim { .. } => "effect.after/reclaim",
        Effect::ProbeTask { .. } => "effect.after/probe_task",
        Effect::ObserveDisk { .. } => "effect.after/observe_disk",
        Effect::TakeInventory { .. } => "effect.after/take_inventory",
        Effect::Call { call, .. } => match call {
            HostCall::Claim => "effect.after/claim",
            HostCall::TakeOver { .. } => "effect.after/take_over",
            HostCall::Release => "effect.after/release",
            HostCall::CreateDomain { .. } => "effect.after/create_domain",
        },
        Effect::Follow { .. } | Effect::Unfollow { .. } | Effect::Resync { .. } => "effect.after/none",
    }
}

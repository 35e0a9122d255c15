//! `vdsm_engine.host.v1.HostService`.

use std::sync::Arc;

use common::Fault;
use common::id::{Incarnation, TaskId};
use common::revision::{Token, TokenError};
use common::text;
use common::words::LISTED;
use proto::convert;
use proto::host::v1 as wire;
use proto::host::v1::host_service_server::HostService;
use proto::task::v1::history_range::Problem;
use runtime::audit;
use runtime::log::ReadError;
use runtime::metadata;
use runtime::status;
use tonic::{Request, Response, Status};
use vdsm_core::{Answer, Claim, EngineCall, Input, Owner, Refusal, TakeOver};
use vdsm_storage::run_dir::{self, Orphans};

use super::request::{OrRefuse as _, who};
use super::storage::Lane;
use super::{Gate, Host, caller, refused, storage, unexpected};
use crate::presence::Presence;
use crate::store;

/// The maximum number of starts since its predecessor that a claim may name: as many as an engine keeps.
const MAX_SINCE: usize = 4_096;

/// The service.
pub(super) struct Hosts {
    gate: Gate,
    lane: Lane,
}

impl Hosts {
    pub(super) fn new(gate: Gate, lane: Lane) -> Self {
        Self { gate, lane }
    }

    async fn info(&self, host: &Host) -> Result<wire::HostInfo, Status> {
        // The token is taken before the rest is read, so everything read is at least as new.
        let token = host.log.token().to_string();
        let reader = host.log.store().reader().map_err(status::from_store)?;
        let owner = store::owner(&*reader).map_err(status::from_store)?;
        drop(reader);
        let start = owner.as_ref().and_then(|owner| owner.incarnation);
        let last_take_over = owner.as_ref().and_then(|owner| owner.taken_over.as_ref());
        let last_take_over = last_take_over.map(store::shown_take_over);
        let owner = owner.filter(|owner: &Owner| !owner.released);
        let identity = host.log.identity();
        let orphans = self.orphans(host).await;
        Ok(wire::HostInfo {
            host_id: host.facts.host_id.to_string(),
            store_id: identity.store_id.to_string(),
            start: format!("{:016x}", identity.start.0),
            engine_id: owner
                .as_ref()
                .map(|owner| owner.engine_id.to_string())
                .unwrap_or_default(),
            engine_epoch: owner.map(|owner| owner.epoch).unwrap_or_default(),
            stranger_tasks_left_out: left_out(orphans.tasks.len()),
            stranger_task_ids: orphans.tasks.iter().take(LISTED).map(TaskId::to_string).collect(),
            unreadable_left_out: u32::try_from(orphans.unreadable_left_out).unwrap_or(u32::MAX),
            unreadable_run_directories: orphans.unreadable.iter().map(convert::fault_to_wire).collect(),
            qemu_img_version: host.facts.qemu_img_version.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(convert::timestamp(host.facts.start_time)),
            token,
            engine_incarnation: start.map(|start| start.to_string()).unwrap_or_default(),
            last_take_over,
        })
    }

    /// The orphans: tasks unknown to the store of which a process is left. If they cannot be listed, the reason
    /// stands beside them, because "none" would be a proof; the rest of the answer is valid all the same.
    async fn orphans(&self, host: &Host) -> Orphans {
        let root = Arc::clone(&host.root);
        let store = Arc::clone(host.log.store());
        let found = storage::read(&self.lane, move || {
            Ok(run_dir::orphans(&*root.now()?, &|id| {
                store::may_know(&*store, id)
            }))
        });
        found.await.unwrap_or_else(Orphans::unreadable)
    }
}

#[tonic::async_trait]
impl HostService for Hosts {
    async fn get_host_info(
        &self,
        request: Request<wire::GetHostInfoRequest>,
    ) -> Result<Response<wire::GetHostInfoResponse>, Status> {
        let host = self.gate.host()?;
        let forgotten = forgotten(host, &request.get_ref().followed)?;
        let info = self.info(host).await?;
        Ok(Response::new(wire::GetHostInfoResponse {
            host: Some(info),
            forgotten,
        }))
    }

    async fn claim_host(
        &self,
        request: Request<wire::ClaimHostRequest>,
    ) -> Result<Response<wire::ClaimHostResponse>, Status> {
        let host = self.gate.host()?;
        let who = who(&request)?;
        let claim = claim(&who, request.into_inner(), &host.presence).or_refuse()?;
        let (call, take_over) = (claim.call, claim.take_over.clone());
        change_owner(host, &who, "ClaimHost", Input::Claim(claim)).await?;
        tell_claimed(call, take_over.as_ref());
        let info = self.info(host).await?;
        Ok(Response::new(wire::ClaimHostResponse { host: Some(info) }))
    }

    async fn release_host(
        &self,
        request: Request<wire::ReleaseHostRequest>,
    ) -> Result<Response<wire::ReleaseHostResponse>, Status> {
        let host = self.gate.host()?;
        let who = who(&request)?;
        change_owner(host, &who, "ReleaseHost", Input::Release(caller(&who))).await?;
        tracing::info!(user = who.user, "released");
        let info = self.info(host).await?;
        Ok(Response::new(wire::ReleaseHostResponse { host: Some(info) }))
    }

    async fn meet_lives(
        &self,
        request: Request<wire::MeetLivesRequest>,
    ) -> Result<Response<wire::MeetLivesResponse>, Status> {
        let host = self.gate.host()?;
        let call = caller(&who(&request)?).engine.ok_or_else(no_engine).or_refuse()?;
        let lives = host
            .presence
            .meet(call.engine_id, request.into_inner().life)
            .or_refuse()?;
        Ok(Response::new(wire::MeetLivesResponse { lives }))
    }
}

fn tell_claimed(call: EngineCall, take_over: Option<&TakeOver>) {
    let incarnation = call.incarnation.map(|start| start.to_string());
    let incarnation = incarnation.unwrap_or_default();
    tracing::info!(engine_id = %call.engine_id, epoch = call.epoch, incarnation, "claimed");
    if let Some(by) = take_over {
        tracing::warn!(
            user = by.user,
            reason = by.reason,
            correlation_id = by.correlation_id,
            "taken over"
        );
    }
}

/// Why the point up to which the caller has followed is not in this history; empty if the point is there, or was.
fn forgotten(host: &Host, followed: &str) -> Result<String, Status> {
    if followed.is_empty() {
        return Ok(String::new());
    }
    let point: Token = followed
        .parse()
        .map_err(|error: TokenError| status::from_fault(&Fault::invalid("followed", error.to_string())))?;
    match host.log.resume(&point) {
        Ok(_) => Ok(String::new()),
        Err(ReadError::OutOfRange(problem)) if problem.problem == Problem::TooOld => Ok(String::new()),
        Err(ReadError::OutOfRange(problem)) => Ok(problem.to_string()),
        Err(ReadError::Store(error)) => Err(status::from_store(error)),
    }
}

/// The number of items that a shortened list leaves out.
pub(super) fn left_out(count: usize) -> u32 {
    u32::try_from(count.saturating_sub(LISTED)).unwrap_or(u32::MAX)
}

fn no_engine() -> Fault {
    Fault::invalid(
        "metadata.x-engine-id",
        "is missing: an engine must send its id and its epoch",
    )
}

/// Reads a claim.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
fn claim(
    who: &metadata::Caller,
    request: wire::ClaimHostRequest,
    presence: &Presence,
) -> Result<Claim, common::Fault> {
    let call = caller(who).engine.ok_or_else(no_engine)?;
    let predecessor = convert::optional_id("predecessor", &request.predecessor)?;
    let count = request.since.len();
    if count > MAX_SINCE {
        let words = format!("has {count} items; expected {MAX_SINCE} at most");
        return Err(common::Fault::invalid("since", words));
    }
    let since = request.since.iter().enumerate();
    let since: Vec<Incarnation> = since
        .map(|(at, id)| convert::id(format!("since[{at}]"), id))
        .collect::<Result<_, _>>()?;
    let line: Vec<_> = since.iter().copied().chain(call.incarnation).collect();
    Ok(Claim {
        call,
        predecessor,
        take_over: request.take_over.map(|by| take_over(by, who)).transpose()?,
        waited_for: predecessor.and_then(|start| presence.waited(start, &line)),
        since,
    })
}

fn take_over(by: wire::TakeOver, who: &metadata::Caller) -> Result<TakeOver, common::Fault> {
    text::name(&by.user).map_err(|error| common::Fault::invalid("take_over.user", error))?;
    if by.reason.is_empty() {
        return Err(common::Fault::invalid("take_over.reason", "is empty; say why"));
    }
    text::description(&by.reason).map_err(|error| common::Fault::invalid("take_over.reason", error))?;
    Ok(TakeOver {
        user: by.user,
        reason: by.reason,
        correlation_id: who.correlation_id.clone().unwrap_or_default(),
    })
}

async fn change_owner(
    host: &Host,
    who: &metadata::Caller,
    rpc: &'static str,
    input: Input,
) -> Result<(), Status> {
    audit::note(|noted| noted.entity = format!("host {}", host.facts.host_id).into());
    let answer = host.ask(input).await?;
    match answer.reply {
        Ok(Answer::Owner(_)) => Ok(()),
        Ok(Answer::Task(_) | Answer::NoTask | Answer::Done) => Err(unexpected()),
        Err(refusal) => {
            if let Refusal::Fault(fault) = &refusal {
                host.tell_of_refusing(who, rpc, fault);
            }
            Err(refused(&refusal))
        }
    }
}

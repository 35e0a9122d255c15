//! The owner of the host, and who may change something on it.
//!
//! A host is loyal to one *incarnation*, that is one start of one engine: the newest claim that it accepted. Another
//! start of that engine gets the host only by naming that incarnation as its predecessor, which it knows from its
//! data directory; a copy of an older state of that directory does not know it. So of two engines on copies of one
//! directory only one has the host, however often the other one starts (docs/adr/0012).

#[cfg(test)]
mod tests;

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, Incarnation, StoreId};
use common::time::Timestamp;
use uuid::Uuid;

use crate::input::{Caller, Claim, EngineCall, TakeOver};

/// How far the epoch of a claim may be above the highest that the host has seen. An engine that starts ten times a
/// second stays below this for 13 years; a caller that wants to use up all epochs needs as many calls as this number.
const MAX_EPOCH_JUMP: u64 = 1 << 32;

/// How long a start that has the host must stay connected after another one claimed to succeed it, until that other
/// one counts as a copy. Twice as long as a dead connection is kept (a ping every 10 s, 5 s to answer).
const PROOF_OF_LIFE: Duration = Duration::from_secs(30);

const COPIED_AT_WORK: &str =
    "it was started on a copy of the data directory while the start that has this host was running";

/// The maximum number of copies that a host remembers while the start that they were copied from is running.
const MAX_COPIES: usize = 64;

/// The engine that has, or had, this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The engine that has the host.
    pub engine_id: EngineId,
    /// That start's epoch.
    pub epoch: u64,
    /// That start; none if an engine of an older build has claimed the host.
    pub incarnation: Option<Incarnation>,
    /// The engine released the host. The rest is kept, so that neither an older start of that engine nor a copy of it
    /// can claim the host again.
    pub released: bool,
    /// Starts that claimed to descend from this one while it was running: copies of its data directory. Neither they
    /// nor their descendants are ever its successors.
    pub copies: Vec<Incarnation>,
    /// The last take-over of the host.
    pub taken_over: Option<TakenOver>,
}

/// A take-over, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Who decided it, and why.
    pub by: TakeOver,
    /// When it happened.
    pub time: Timestamp,
    /// The former owner; none if there was none.
    pub from_engine: Option<EngineId>,
    /// The start of the former owner.
    pub from_incarnation: Option<Incarnation>,
}

impl Owner {
    const fn new(call: &EngineCall, taken_over: Option<TakenOver>) -> Self {
        Self {
            engine_id: call.engine_id,
            epoch: call.epoch,
            incarnation: call.incarnation,
            released: false,
            copies: Vec::new(),
            taken_over,
        }
    }

    /// An owner that never existed: any engine may claim the host.
    #[must_use]
    pub const fn nobody(taken_over: Option<TakenOver>) -> Self {
        Self {
            engine_id: EngineId::from_uuid(Uuid::nil()),
            epoch: 0,
            incarnation: None,
            released: true,
            copies: Vec::new(),
            taken_over,
        }
    }

    /// Whether it is [`Owner::nobody`].
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.engine_id == EngineId::from_uuid(Uuid::nil())
    }

    fn is(&self, call: &EngineCall) -> bool {
        (self.engine_id, self.epoch, self.incarnation) == (call.engine_id, call.epoch, call.incarnation)
    }

    /// Remembers a copy; the oldest ones are forgotten.
    fn with_copy(mut self, copy: Incarnation) -> Self {
        self.copies.push(copy);
        let surplus = self.copies.len().saturating_sub(MAX_COPIES);
        self.copies.drain(..surplus);
        self
    }
}

/// Whether `caller` may change something, and the owner to record before anything is done for it.
///
/// # Errors
/// `HOST_STORE_CHANGED`, `HOST_OWNED`, `ENGINE_FENCED`, `HOST_NOT_OWNED`, or `INVALID_ARGUMENT` for an epoch that is
/// too high.
pub(crate) fn admit(owner: Option<&Owner>, own: StoreId, caller: &Caller) -> Result<Option<Owner>, Fault> {
    match (owner.filter(|owner| !owner.released), caller.engine) {
        (None, None) => Ok(None),
        (Some(owner), None) => Err(owned(owner)),
        (owner, Some(call)) => {
            same_store(own, &call)?;
            let owner = owner.ok_or_else(not_owned)?;
            loyal(owner, &call)
        }
    }
}

/// Whether a task stream that an engine opened continues; returns whether that engine has the host. If nobody has it,
/// an engine may watch it before it claims it: then only a stream of the engine that had it (`had_it`) ends.
///
/// # Errors
/// The refusal of a mutating call of that engine: `HOST_OWNED`, `ENGINE_FENCED`, `HOST_NOT_OWNED`.
pub fn may_follow(owner: Option<&Owner>, call: &EngineCall, had_it: bool) -> Result<bool, Fault> {
    match owner.filter(|owner| !owner.released) {
        Some(owner) => loyal(owner, call).map(|_| true),
        None if had_it => Err(not_owned()),
        None => Ok(false),
    }
}

/// Engines of older builds have no incarnation: their higher epoch is recorded in the same revision as what is done
/// for them. All others claim the host first.
fn loyal(owner: &Owner, call: &EngineCall) -> Result<Option<Owner>, Fault> {
    if owner.engine_id != call.engine_id {
        return Err(owned(owner));
    }
    if owner.is(call) {
        return Ok(None);
    }
    match (owner.incarnation, call.incarnation) {
        (None, None) => {
            newer(owner, call)?;
            within_reach(owner.epoch, call.epoch)?;
            Ok(Some(Owner {
                epoch: call.epoch,
                ..owner.clone()
            }))
        }
        _ => Err(fenced(owner, call, "it has not claimed this host")),
    }
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// The owner to be recorded, whatever the verdict; none if it is recorded already.
    pub(crate) owner: Option<Owner>,
    /// Why the claim is refused; none if it is accepted.
    pub(crate) refusal: Option<Fault>,
}

impl Claimed {
    const fn accepted(owner: Option<Owner>) -> Self {
        Self { owner, refusal: None }
    }
}

/// Decides about a claim.
///
/// # Errors
/// `HOST_STORE_CHANGED`, `HOST_OWNED`, `ENGINE_FENCED`, `ENGINE_STILL_CONNECTED`, or `INVALID_ARGUMENT` for an epoch
/// that is too high, or 0.
pub(crate) fn claim(
    owner: Option<&Owner>,
    own: StoreId,
    claim: &Claim,
    now: Timestamp,
) -> Result<Claimed, Fault> {
    let call = &claim.call;
    same_store(own, call)?;
    is_counted(call.epoch)?;
    if let Some(by) = &claim.take_over {
        // Nobody comes after a start that has the last number, and a person may have been deceived.
        let seen = owner.filter(|owner| owner.engine_id == call.engine_id);
        within_reach(seen.map_or(0, |owner| owner.epoch), call.epoch)?;
        return Ok(Claimed::accepted(taken(owner, call, by, now)));
    }
    let last = owner.and_then(|owner| owner.taken_over.clone());
    match owner {
        Some(owner) if owner.engine_id == call.engine_id => by_the_same_engine(owner, claim),
        Some(owner) if !owner.released => Err(owned(owner)),
        _ => {
            within_reach(0, call.epoch)?;
            Ok(Claimed::accepted(Some(Owner::new(call, last))))
        }
    }
}

fn by_the_same_engine(owner: &Owner, claim: &Claim) -> Result<Claimed, Fault> {
    if owner.is(&claim.call) {
        return Ok(Claimed::accepted(owner.released.then(|| Owner {
            released: false,
            ..owner.clone()
        })));
    }
    succeeds(owner, claim)?;
    match claim.waited_for.filter(|_| !owner.released) {
        None => Ok(Claimed::accepted(Some(Owner::new(
            &claim.call,
            owner.taken_over.clone(),
        )))),
        Some(waited) if waited < PROOF_OF_LIFE => Err(still_connected(owner)),
        // A predecessor has ended when its successor starts, so this start is no predecessor.
        Some(_) => Ok(Claimed {
            owner: first_of(claim).map(|copy| owner.clone().with_copy(copy)),
            refusal: Some(fenced(owner, &claim.call, COPIED_AT_WORK)),
        }),
    }
}

/// The first start after the one that has the host: all its descendants name it.
fn first_of(claim: &Claim) -> Option<Incarnation> {
    claim.since.first().copied().or(claim.call.incarnation)
}

/// Takes the host over, whoever has it.
fn taken(owner: Option<&Owner>, call: &EngineCall, by: &TakeOver, now: Timestamp) -> Option<Owner> {
    let has_it = owner.is_some_and(|owner| owner.is(call) && !owner.released);
    (!has_it).then(|| {
        let from = owner.filter(|owner| !owner.released);
        let taken_over = TakenOver {
            by: by.clone(),
            time: now,
            from_engine: from.map(|owner| owner.engine_id),
            from_incarnation: from.and_then(|owner| owner.incarnation),
        };
        Owner::new(call, Some(taken_over))
    })
}

/// Whether a claim of the same engine comes from a start that descends from the one that has the host.
fn succeeds(owner: &Owner, claim: &Claim) -> Result<(), Fault> {
    let call = &claim.call;
    newer(owner, call)?;
    within_reach(owner.epoch, call.epoch)?;
    let (Some(has_it), Some(wants_it)) = (owner.incarnation, call.incarnation) else {
        let older_build = owner.incarnation.is_some();
        return if older_build {
            Err(fenced(
                owner,
                call,
                "it names no incarnation, as engines of older builds do",
            ))
        } else {
            Ok(())
        };
    };
    if claim.predecessor != Some(has_it) || has_it == wants_it {
        return Err(fenced(
            owner,
            call,
            "it does not descend from the start that has this host: its data directory is a copy or an older state of the other's",
        ));
    }
    let mut line = claim.since.iter().chain([&wants_it]);
    if line.any(|start| owner.copies.contains(start)) {
        return Err(fenced(owner, call, COPIED_AT_WORK));
    }
    Ok(())
}

fn newer(owner: &Owner, call: &EngineCall) -> Result<(), Fault> {
    let lower = call.epoch < owner.epoch || (call.incarnation.is_some() && call.epoch == owner.epoch);
    if lower {
        return Err(fenced(owner, call, "its epoch is over"));
    }
    Ok(())
}

/// Engines count their starts from 1.
fn is_counted(epoch: u64) -> Result<(), Fault> {
    if epoch == 0 {
        let problem = "is 0; expected the number of the engine's start, which is 1 for the first";
        return Err(Fault::invalid("metadata.x-engine-epoch", problem));
    }
    Ok(())
}

fn within_reach(seen: u64, epoch: u64) -> Result<(), Fault> {
    if epoch.saturating_sub(seen) > MAX_EPOCH_JUMP {
        return Err(Fault::invalid(
            "metadata.x-engine-epoch",
            format!(
                "is {epoch}, but the highest that this host has seen is {seen}: no engine starts that often"
            ),
        ));
    }
    Ok(())
}

fn fenced(owner: &Owner, call: &EngineCall, why: &str) -> Fault {
    let named = |incarnation: Option<Incarnation>| {
        incarnation.map_or_else(
            || "without incarnation".to_owned(),
            |id| format!("incarnation {id}"),
        )
    };
    Fault::new(
        FaultCode::EngineFenced,
        format!(
            "this start of the engine ({}, epoch {}) is refused: {why}. The host belongs to {}, epoch {}. Stop the engine that is not to have it; if this one is, have it take the host over (TakeOverHost)",
            named(call.incarnation),
            call.epoch,
            named(owner.incarnation),
            owner.epoch
        ),
    )
    .about(call.engine_id)
}

fn still_connected(owner: &Owner) -> Fault {
    Fault::new(
        FaultCode::EngineStillConnected,
        format!(
            "the start of the engine that has this host (epoch {}) is still connected to it: a successor can claim it when that connection has ended. If two engines run, stop one",
            owner.epoch
        ),
    )
    .about(owner.engine_id)
}

fn same_store(own: StoreId, call: &EngineCall) -> Result<(), Fault> {
    match call.store_id {
        Some(store) if store != own => Err(Fault::new(
            FaultCode::HostStoreChanged,
            format!(
                "the call is for store {store}, but this host's data directory is store {own}: the one before was lost, or another one was put in its place. An engine connects anew, and settles by what storage shows what was begun; whoever else calls reads the host (GetHostInfo) before it sends anything again"
            ),
        )
        .about(own)),
        _ => Ok(()),
    }
}

fn owned(owner: &Owner) -> Fault {
    Fault::new(
        FaultCode::HostOwned,
        format!(
            "this host belongs to engine {}: change it there, or remove it there first",
            owner.engine_id
        ),
    )
    .about(owner.engine_id)
}

fn not_owned() -> Fault {
    Fault::new(
        FaultCode::HostNotOwned,
        "this host belongs to no engine: claim it (ClaimHost) before sending it work",
    )
}

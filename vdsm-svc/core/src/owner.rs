//! The owner of the host, and who may change something on it.
//!
//! A host is loyal to one *incarnation*, that is one start of one engine: the newest claim that it accepted. Another
//! start of that engine gets the host only by naming that incarnation as its predecessor, which it knows from its
//! data directory; a copy of an older state of that directory does not know it. So of two engines on copies of one
//! directory only one has the host, however often the other one starts (docs/adr/0012).

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
/// that is too high.
pub(crate) fn claim(
    owner: Option<&Owner>,
    own: StoreId,
    claim: &Claim,
    now: Timestamp,
) -> Result<Claimed, Fault> {
    let call = &claim.call;
    same_store(own, call)?;
    if let Some(by) = &claim.take_over {
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const OWN: StoreId = StoreId::from_uuid(Uuid::from_u128(9));
    const NOW: Timestamp = Timestamp(7);

    fn start(n: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(n))
    }

    /// As engines of older builds call.
    fn old(engine: u128, epoch: u64, store: Option<u128>) -> EngineCall {
        EngineCall {
            engine_id: EngineId::from_uuid(Uuid::from_u128(engine)),
            epoch,
            incarnation: None,
            store_id: store.map(|id| StoreId::from_uuid(Uuid::from_u128(id))),
        }
    }

    fn call(epoch: u64, incarnation: u128) -> EngineCall {
        EngineCall {
            incarnation: Some(start(incarnation)),
            ..old(1, epoch, None)
        }
    }

    fn plain(call: EngineCall) -> Claim {
        Claim {
            call,
            predecessor: None,
            since: Vec::new(),
            take_over: None,
            waited_for: None,
        }
    }

    /// A start whose data directory names `line`, oldest first, as the starts before it.
    fn heir(epoch: u64, incarnation: u128, line: &[u128]) -> Claim {
        Claim {
            predecessor: line.first().map(|n| start(*n)),
            since: line.iter().skip(1).map(|n| start(*n)).collect(),
            ..plain(call(epoch, incarnation))
        }
    }

    fn ask(owner: Option<&Owner>, asked: &Claim) -> Result<Option<Owner>, FaultCode> {
        let claimed = claim(owner, OWN, asked, NOW).map_err(|fault| fault.code)?;
        match claimed.refusal {
            Some(fault) => Err(fault.code),
            None => Ok(claimed.owner),
        }
    }

    fn owner(of: EngineCall) -> Owner {
        ask(None, &plain(of)).unwrap().unwrap()
    }

    fn admitted(owner: Option<&Owner>, engine: Option<EngineCall>) -> Result<Option<Owner>, FaultCode> {
        admit(owner, OWN, &Caller { engine }).map_err(|fault| fault.code)
    }

    fn released(owner: &Owner) -> Owner {
        Owner {
            released: true,
            ..owner.clone()
        }
    }

    #[test]
    fn a_caller_that_is_no_engine_changes_things_only_where_nobody_owns() {
        assert_eq!(admitted(None, None), Ok(None));
        let owner = owner(call(1, 1));
        assert_eq!(admitted(Some(&owner), None), Err(FaultCode::HostOwned));
        assert_eq!(admitted(Some(&released(&owner)), None), Ok(None));
    }

    #[test]
    fn a_stream_ends_with_what_a_call_of_its_engine_is_refused_with() {
        let owner = owner(call(5, 50));
        let follows = |owner: Option<&Owner>, call, had_it| {
            may_follow(owner, &call, had_it).map_err(|fault| fault.code)
        };
        for had_it in [false, true] {
            assert_eq!(follows(Some(&owner), call(5, 50), had_it), Ok(true));
            for other in [call(4, 49), call(6, 51), old(1, 6, None), old(2, 9, None)] {
                let refused = admitted(Some(&owner), Some(other)).map(|_| true);
                assert_eq!(follows(Some(&owner), other, had_it), refused, "{other:?}");
            }
        }
        for nobodys in [None, Some(&released(&owner))] {
            assert_eq!(follows(nobodys, call(6, 51), false), Ok(false));
            assert_eq!(follows(nobodys, call(5, 50), true), Err(FaultCode::HostNotOwned));
        }
    }

    #[test]
    fn an_engine_must_own_the_host_mean_its_store_and_be_the_start_that_claimed_it() {
        let owner = owner(call(5, 50));
        let ask = |call| admitted(Some(&owner), Some(call));
        assert_eq!(admitted(None, Some(call(5, 50))), Err(FaultCode::HostNotOwned));
        assert_eq!(ask(call(5, 50)), Ok(None));
        for other in [
            call(5, 51),
            call(6, 51),
            call(u64::MAX, 51),
            call(6, 50),
            call(4, 50),
            old(1, 6, None),
        ] {
            assert_eq!(ask(other), Err(FaultCode::EngineFenced), "{other:?}");
        }
        assert_eq!(ask(old(2, 9, None)), Err(FaultCode::HostOwned));
        let elsewhere = EngineCall {
            store_id: Some(StoreId::from_uuid(Uuid::from_u128(8))),
            ..call(5, 50)
        };
        assert_eq!(ask(elsewhere), Err(FaultCode::HostStoreChanged));
    }

    #[test]
    fn of_two_copies_one_has_the_host_however_often_the_other_one_starts() {
        let copied = owner(call(5, 50));
        let first = ask(Some(&copied), &heir(6, 60, &[50])).unwrap().unwrap();
        // The other one, its line, and every epoch it may reach.
        let mut line = vec![50];
        for (epoch, incarnation) in [(6, 61), (7, 71), (8, 81), (90, 91)] {
            let asked = heir(epoch, incarnation, &line);
            assert_eq!(ask(Some(&first), &asked), Err(FaultCode::EngineFenced));
            assert_eq!(
                admitted(Some(&first), Some(asked.call)),
                Err(FaultCode::EngineFenced)
            );
            line.push(incarnation);
        }
        assert_eq!(
            ask(Some(&first), &heir(6, 60, &[])),
            Ok(None),
            "harmless to repeat"
        );
        let next = ask(Some(&first), &heir(7, 70, &[60])).unwrap().unwrap();
        assert_eq!((next.epoch, next.incarnation), (7, Some(start(70))));
    }

    #[test]
    fn a_successor_names_the_start_that_has_the_host_and_has_a_higher_epoch() {
        let owner = owner(call(5, 50));
        let many = ask(Some(&owner), &heir(9, 90, &[50, 60, 70, 80])).unwrap();
        assert_eq!(
            many.unwrap().incarnation,
            Some(start(90)),
            "also after starts that it never met"
        );
        for wrong in [
            heir(6, 60, &[]),
            heir(6, 60, &[40]),
            heir(5, 60, &[50]),
            heir(4, 60, &[50]),
            heir(6, 50, &[50]),
        ] {
            assert_eq!(
                ask(Some(&owner), &wrong),
                Err(FaultCode::EngineFenced),
                "{wrong:?}"
            );
        }
        let released = released(&owner);
        assert_eq!(
            ask(Some(&released), &heir(6, 60, &[])),
            Err(FaultCode::EngineFenced)
        );
        assert!(ask(Some(&released), &heir(6, 60, &[50])).unwrap().is_some());
    }

    #[test]
    fn a_copy_of_a_start_that_is_at_work_waits_and_is_found_out() {
        let owner = owner(call(5, 50));
        let waiting = |seconds, incarnation, line: &[u128]| Claim {
            waited_for: Some(Duration::from_secs(seconds)),
            ..heir(9, incarnation, line)
        };
        assert_eq!(
            ask(Some(&owner), &waiting(29, 60, &[50])),
            Err(FaultCode::EngineStillConnected)
        );
        let found_out = claim(Some(&owner), OWN, &waiting(30, 60, &[50]), NOW).unwrap();
        assert_eq!(found_out.refusal.unwrap().code, FaultCode::EngineFenced);
        let owner = found_out.owner.unwrap();
        assert_eq!(
            owner.incarnation,
            Some(start(50)),
            "the host stays with whom it was"
        );
        // From then on also while nobody is connected, and with all that descends from it.
        assert_eq!(
            ask(Some(&owner), &heir(9, 60, &[50])),
            Err(FaultCode::EngineFenced)
        );
        assert_eq!(
            ask(Some(&owner), &heir(9, 70, &[50, 60])),
            Err(FaultCode::EngineFenced)
        );
        assert!(ask(Some(&owner), &heir(6, 61, &[50])).unwrap().is_some());
    }

    #[test]
    fn an_epoch_out_of_reach_is_refused() {
        assert_eq!(
            ask(None, &plain(call(u64::MAX, 1))),
            Err(FaultCode::InvalidArgument)
        );
        let owner = owner(call(5, 50));
        assert_eq!(
            ask(Some(&owner), &heir(u64::MAX, 60, &[50])),
            Err(FaultCode::InvalidArgument)
        );
        let old_build = self::owner(old(1, 5, None));
        let jump = old(1, u64::MAX, None);
        assert_eq!(
            ask(Some(&old_build), &plain(jump)),
            Err(FaultCode::InvalidArgument)
        );
        assert_eq!(
            admitted(Some(&old_build), Some(jump)),
            Err(FaultCode::InvalidArgument)
        );
    }

    #[test]
    fn records_of_older_builds_go_by_the_epoch_until_a_start_with_an_incarnation_claims() {
        let owner = owner(old(1, 5, Some(9)));
        assert_eq!(admitted(Some(&owner), Some(old(1, 5, None))), Ok(None));
        let newer = admitted(Some(&owner), Some(old(1, 6, None))).unwrap().unwrap();
        assert_eq!(newer.epoch, 6);
        assert_eq!(
            admitted(Some(&owner), Some(old(1, 4, None))),
            Err(FaultCode::EngineFenced)
        );
        assert_eq!(ask(Some(&owner), &heir(5, 50, &[])), Err(FaultCode::EngineFenced));
        assert_eq!(
            admitted(Some(&owner), Some(call(6, 60))),
            Err(FaultCode::EngineFenced)
        );
        let upgraded = ask(Some(&owner), &heir(6, 60, &[])).unwrap().unwrap();
        assert_eq!(
            ask(Some(&upgraded), &plain(old(1, 7, None))),
            Err(FaultCode::EngineFenced)
        );
    }

    #[test]
    fn a_take_over_moves_the_host_whoever_has_it_and_says_by_whom() {
        let by = TakeOver {
            user: "ann".into(),
            reason: "the old engine burnt down".into(),
            correlation_id: "c-1".into(),
        };
        let taking = |call| Claim {
            take_over: Some(by.clone()),
            ..plain(call)
        };
        let burnt = owner(EngineCall {
            epoch: 1 << 31,
            ..call(1, 50)
        });
        let other = EngineCall {
            engine_id: EngineId::from_uuid(Uuid::from_u128(2)),
            ..call(3, 30)
        };
        for call in [other, call(2, 20)] {
            let taken = ask(Some(&burnt), &taking(call)).unwrap().unwrap();
            assert!(taken.is(&call));
            let told = taken.taken_over.clone().unwrap();
            assert_eq!((&told.by, told.time), (&by, NOW));
            assert_eq!(told.from_incarnation, Some(start(50)));
            assert_eq!(ask(Some(&taken), &taking(call)), Ok(None), "harmless to repeat");
            assert!(admitted(Some(&taken), Some(self::call(1 << 31, 50))).is_err());
            assert!(ask(Some(&taken), &heir(1 << 32, 60, &[50])).is_err());
        }
        assert!(ask(None, &taking(other)).unwrap().is_some());
    }

    #[test]
    fn who_has_a_host_that_was_nobodys_tells_how_it_was_last_taken_over() {
        let by = TakeOver {
            user: "ann".into(),
            reason: "the old engine burnt down".into(),
            correlation_id: "c-1".into(),
        };
        let taking = Claim {
            take_over: Some(by),
            ..plain(call(3, 30))
        };
        let taken = ask(None, &taking).unwrap().unwrap();
        let told = taken.taken_over.clone();
        assert!(told.is_some());
        for nobodys in [released(&taken), Owner::nobody(told.clone())] {
            for claimed in [plain(old(2, 1, None)), taking.clone()] {
                let next = ask(Some(&nobodys), &claimed).unwrap().unwrap();
                assert!(next.taken_over.is_some(), "{claimed:?}");
            }
        }
        let forgotten = Owner::nobody(told);
        assert!(
            ask(Some(&forgotten), &plain(call(1, 10))).unwrap().is_some(),
            "whichever start"
        );
    }

    #[test]
    fn a_release_lets_other_engines_in_and_no_older_start() {
        let owner = owner(call(5, 50));
        let stranger = plain(old(2, 1, None));
        assert_eq!(ask(Some(&owner), &stranger), Err(FaultCode::HostOwned));
        let released = released(&owner);
        assert_eq!(
            ask(Some(&released), &heir(4, 40, &[])),
            Err(FaultCode::EngineFenced)
        );
        assert_eq!(ask(Some(&released), &plain(call(5, 50))), Ok(Some(owner)));
        let other = ask(Some(&released), &stranger).unwrap().unwrap();
        assert_eq!((other.epoch, other.released), (1, false));
    }
}

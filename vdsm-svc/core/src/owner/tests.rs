//! The promises of a host's loyalty.

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
    let follows =
        |owner: Option<&Owner>, call, had_it| may_follow(owner, &call, had_it).map_err(|fault| fault.code);
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
fn no_claim_has_an_epoch_that_no_engine_reaches_whoever_decides_it() {
    let by = TakeOver {
        user: "alice".into(),
        reason: "mine".into(),
        correlation_id: String::new(),
    };
    let claim = |epoch, by: Option<&TakeOver>| Claim {
        take_over: by.cloned(),
        ..plain(call(epoch, 9))
    };
    let owner = owner(call(5, 50));
    for by in [None, Some(&by)] {
        for epoch in [0, u64::MAX] {
            for owner in [None, Some(&owner)] {
                let refused = ask(owner, &claim(epoch, by)).unwrap_err();
                assert_eq!(refused, FaultCode::InvalidArgument, "{epoch} {by:?}");
            }
        }
    }
    assert!(ask(Some(&owner), &claim(5 + MAX_EPOCH_JUMP, Some(&by))).is_ok());
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

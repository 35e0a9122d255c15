//! Over a store: old tasks are found, the decision about them is recorded, and then no old task is left.

use ::store::{Commit, Write};
use bytes::Bytes;
use common::id::{EngineId, TaskId};
use common::revision::Revision;
use doubles::memory::MemoryStore;
use prost::Message as _;
use proto::host::v1 as wire;
use proto::store::v1::{HostHistory, HostTaskRecord};
use runtime::machine::Machine as _;
use uuid::Uuid;
use vdsm_core::{Caller, EngineCall, Limits as HostLimits, Reply};

use super::*;
use crate::alive::Alive;
use crate::store::{self, Seed};

const LIMITS: Limits = Limits {
    unowned: days(7),
    cleared: days(30),
};

const ENGINE: EngineCall = EngineCall {
    engine_id: EngineId::from_uuid(Uuid::from_u128(0xE)),
    epoch: 1,
    incarnation: None,
    store_id: None,
};

/// This many days after the beginning.
fn day(days: i64) -> Timestamp {
    Timestamp(0).plus_seconds(days * 24 * 60 * 60)
}

fn id(n: u128) -> TaskId {
    TaskId::from_uuid(Uuid::from_u128(n))
}

struct World {
    store: Arc<dyn Store>,
    machine: HostMachine,
}

impl World {
    fn new() -> Self {
        let store: Arc<dyn Store> = MemoryStore::new();
        let seed = Seed {
            limits: HostLimits::default(),
            identity: store.identity(),
            alive: Arc::new(Alive::default()),
            presence: Arc::default(),
            figures: None,
        };
        let machine = HostMachine::load(&*store.reader().unwrap(), &seed).unwrap();
        Self { store, machine }
    }

    fn step(&mut self, input: Input, now: Timestamp) -> Reply {
        let step = self.machine.step(input, now);
        for change in step.revisions {
            self.commit(change.history.encode_to_vec(), change.writes, now);
        }
        step.reply
    }

    fn commit(&self, history: Vec<u8>, writes: Vec<Write>, time: Timestamp) {
        let commit = Commit {
            revision: self.store.reader().unwrap().revision().next(),
            time,
            history,
            writes,
        };
        self.store.commit([commit].into()).unwrap();
    }

    fn known(&self, n: u128) -> Known {
        store::known(&*self.store.reader().unwrap(), id(n)).unwrap()
    }

    /// A task that is over at once, because it is aborted before it was started.
    fn over(&mut self, n: u128, caller: Caller, now: Timestamp) {
        let input = Input::Abort {
            caller,
            task_id: id(n),
            correlation_id: String::new(),
            known: self.known(n),
        };
        self.step(input, now).unwrap();
    }

    /// An engine's task that is over.
    fn over_and_owned(&mut self, n: u128, now: Timestamp) -> Caller {
        let caller = Caller { engine: Some(ENGINE) };
        let claim = vdsm_core::Claim {
            call: ENGINE,
            predecessor: None,
            since: Vec::new(),
            take_over: None,
            waited_for: None,
        };
        self.step(Input::Claim(claim), now).unwrap();
        self.over(n, caller, now);
        caller
    }

    fn clear(&mut self, n: u128, caller: Caller, now: Timestamp) {
        let input = Input::Clear {
            caller,
            task_id: id(n),
            known: self.known(n),
        };
        self.step(input, now).unwrap();
    }

    fn look(&self, now: Timestamp) -> Option<Input> {
        // A task that is not over at that time was recorded with a clock that was ahead, but not by too much.
        let most = day(20_000);
        look(
            &*self.store.reader().unwrap(),
            LIMITS,
            Present { least: now, most },
        )
        .unwrap()
    }

    /// Looks and decides once, as the service does; returns how many records were old.
    fn age(&mut self, now: Timestamp) -> usize {
        let Some(input) = self.look(now) else { return 0 };
        let Input::Age { clear, forget } = &input else {
            panic!("{input:?}");
        };
        let old = clear.len() + forget.len();
        self.step(input, now).unwrap();
        old
    }

    fn is_known(&self, n: u128) -> bool {
        self.known(n).task.is_some()
    }
}

#[test]
fn what_no_engine_started_goes_by_its_age_and_what_an_engine_started_does_not() {
    let mut world = World::new();
    world.over(1, Caller::default(), day(0));
    world.over_and_owned(2, day(0));
    for young in [day(-1), day(0), day(7)] {
        assert_eq!(world.look(young), None, "{young:?}");
    }
    assert_eq!(world.age(day(8)), 1);
    let task = world.known(1).task.unwrap();
    assert!(task.removed, "it is kept still");
    assert_eq!(task.clear_time, Some(day(8)));
    let last = world.store.history(Revision(0), 100).unwrap().pop().unwrap();
    let last = HostHistory::decode(last.history.as_slice()).unwrap();
    let removed = |told: &Bytes| wire::Task::decode(told.clone()).unwrap().removed;
    assert!(last.tasks.iter().any(removed), "watchers are told");
    assert!(!world.known(2).task.unwrap().removed);
    assert_eq!(world.age(day(8)), 0, "once");
    assert_eq!(world.age(day(9 + 30)), 1, "then it is forgotten");
    assert!(!world.is_known(1));
    assert_eq!(world.age(day(10_000)), 0);
    assert!(world.is_known(2), "its engine has not said that it may go");
}

/// An engine that was away for long clears late, and may have sent the task once more before.
#[test]
fn what_was_cleared_is_kept_for_its_time_from_then_on() {
    let mut world = World::new();
    let engine = world.over_and_owned(1, day(0));
    world.clear(1, engine, day(40));
    world.clear(1, engine, day(50));
    assert_eq!(world.age(day(41)), 0);
    assert_eq!(world.age(day(70)), 0);
    assert!(world.is_known(1));
    assert_eq!(world.age(day(71)), 1, "saying it again does not keep it longer");
    assert!(!world.is_known(1));
    assert_eq!(world.age(day(71)), 0);
}

#[test]
fn what_an_older_build_has_cleared_is_kept_from_its_end_on() {
    let mut world = World::new();
    let engine = world.over_and_owned(1, day(0));
    world.clear(1, engine, day(40));
    let all = (Bound::Unbounded, Bound::Unbounded);
    let reader = world.store.reader().unwrap();
    let (key, value) = reader.scan(CLEARED, all, Order::Ascending, 1).unwrap().remove(0);
    let record = HostTaskRecord {
        clear_time: None,
        ..HostTaskRecord::decode(value.as_slice()).unwrap()
    };
    let write = Write {
        table: CLEARED,
        key,
        value: Some(record.encode_to_vec()),
    };
    world.commit(Vec::new(), vec![write], day(40));
    assert_eq!(world.look(day(30)), None);
    assert_eq!(world.age(day(31)), 1);
}

#[test]
fn much_that_is_old_goes_a_piece_at_a_time() {
    let mut world = World::new();
    let all = PIECE + 5;
    for n in 1..=all {
        world.over(n as u128, Caller::default(), day(0));
    }
    assert_eq!(world.age(day(8)), PIECE);
    assert_eq!(world.age(day(8)), 5);
    assert_eq!(world.age(day(8)), 0);
    assert_eq!(world.age(day(39)), PIECE);
    assert_eq!(world.age(day(39)), 5);
    assert!((1..=all).all(|n| !world.is_known(n as u128)));
}

/// A task that was cleared or started meanwhile differs from the record that the look has read.
#[test]
fn what_has_changed_since_it_was_looked_at_is_left_for_the_next_time() {
    let mut world = World::new();
    world.over(1, Caller::default(), day(0));
    let looked = world.look(day(8)).unwrap();
    world.clear(1, Caller::default(), day(8));
    let before = world.known(1).task.unwrap();
    world.step(looked, day(9)).unwrap();
    assert_eq!(world.known(1).task.unwrap(), before, "it was cleared once");
}

//! Random histories. What must hold after each step is a function of its own, named as the promise.

use std::collections::BTreeMap;

use crate::lock::keys;
use crate::{CallId, Input, Key, Task};
use common::id::{DomainId, TaskId};
use common::lock::Mode;
use common::task::TaskState;
use proptest::prelude::*;

use super::model::{Host, LIMITS, uuid};

#[derive(Debug, Clone)]
enum Move {
    Start(u8, u8),
    Abort(u8),
    Clear(u8),
    Advance(u8),
    Hold(u8),
    LetGo(u8),
    Crash,
    Reload,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => (0u8..16, any::<u8>()).prop_map(|(id, op)| Move::Start(id, op)),
        2 => (0u8..16).prop_map(Move::Abort),
        2 => (0u8..16).prop_map(Move::Clear),
        12 => any::<u8>().prop_map(Move::Advance),
        1 => (0u8..2).prop_map(Move::Hold),
        2 => (0u8..2).prop_map(Move::LetGo),
        1 => Just(Move::Crash),
        1 => Just(Move::Reload),
    ]
}

/// Makes a move; returns the input, if it was one that may come again.
fn make(host: &mut Host, step: Move, luck: u8) -> Option<Input> {
    let input = match step {
        Move::Start(id, op) => host.start(id, op),
        Move::Abort(id) => host.abort(id),
        Move::Clear(id) => host.clear(id),
        Move::Advance(at) => return host.advance(usize::from(at) % host.jobs.len().max(1), luck),
        Move::Hold(domain) => Input::Hold {
            caller: Default::default(),
            call: CallId(u64::from(domain)),
            keys: vec![Key::Domain(DomainId::from_uuid(uuid(domain)))],
        },
        Move::LetGo(domain) => Input::LetGo(CallId(u64::from(domain))),
        Move::Crash => {
            host.crash(luck);
            return None;
        }
        Move::Reload => {
            host.reload(luck);
            return None;
        }
    };
    host.take(input.clone(), luck);
    Some(input)
}

fn a_terminal_state_is_final_and_sequences_are_dense(host: &Host) {
    let mut last: BTreeMap<TaskId, &Task> = BTreeMap::new();
    for task in &host.shown {
        let expected = last.get(&task.id).map_or(1, |before| before.sequence + 1);
        assert_eq!(task.sequence, expected, "{task:?}");
        if let Some(before) = last.insert(task.id, task) {
            assert!(!before.removed, "removal is the last change: {task:?}");
            assert!(
                !before.state.is_terminal() || before.state == task.state,
                "{before:?} {task:?}"
            );
        }
    }
}

fn the_first_fault_stays(host: &Host) {
    let mut faults = BTreeMap::new();
    for task in &host.shown {
        if let Some(fault) = &task.fault {
            assert_eq!(faults.entry(task.id).or_insert(fault), &fault, "{task:?}");
        } else {
            assert!(!faults.contains_key(&task.id), "lost: {task:?}");
        }
    }
}

fn an_end_that_is_no_success_says_why(host: &Host) {
    for task in host.records.values() {
        match task.state {
            TaskState::Recovered | TaskState::Failed => assert!(task.fault.is_some(), "{task:?}"),
            TaskState::Finished => assert_eq!(task.fault, None, "{task:?}"),
            _ => {}
        }
    }
}

fn limits_hold(host: &Host) {
    let running: Vec<&Task> = host.state.unfinished().filter(|task| at_work(task)).collect();
    assert!(running.len() <= LIMITS.running_per_host);
    assert_eq!(running.len(), host.state.running());
    for domain in [0, 1].map(|n| DomainId::from_uuid(uuid(n))) {
        let there = |task: &&&Task| task.operation.as_ref().and_then(|op| op.domain_id()) == Some(domain);
        let count = running.iter().filter(there).count();
        assert!(count <= LIMITS.running_per_domain);
        assert_eq!(count, host.state.running_in(domain));
    }
}

fn whoever_works_has_its_locks_and_conflicts_with_nobody(host: &Host) {
    let mut held: BTreeMap<Key, Vec<Mode>> = BTreeMap::new();
    for task in host.state.unfinished().filter(|task| at_work(task)) {
        assert!(host.state.holds_its_locks(task), "{task:?}");
        for (key, mode) in task.operation.iter().flat_map(keys) {
            held.entry(key).or_default().push(mode);
        }
    }
    for (key, modes) in held {
        assert!(
            modes.len() == 1 || modes.iter().all(|mode| *mode == Mode::Shared),
            "{key}: {modes:?}"
        );
    }
}

fn the_records_alone_give_the_same_picture(host: &Host) {
    let loaded = host.loaded();
    assert!(host.state.unfinished().eq(loaded.unfinished()));
    assert_eq!(host.state.owner(), loaded.owner());
    assert_eq!(host.state.running(), loaded.running());
}

fn at_work(task: &Task) -> bool {
    matches!(
        task.state,
        TaskState::Running | TaskState::Aborting | TaskState::Recovering
    )
}

fn check(host: &Host) {
    a_terminal_state_is_final_and_sequences_are_dense(host);
    the_first_fault_stays(host);
    an_end_that_is_no_success_says_why(host);
    limits_hold(host);
    whoever_works_has_its_locks_and_conflicts_with_nobody(host);
    the_records_alone_give_the_same_picture(host);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_promises_and_ends(
        is_owned in any::<bool>(),
        script in prop::collection::vec((moves(), any::<u8>()), 1..150),
    ) {
        let mut host = if is_owned { Host::owned() } else { Host::new() };
        for (step, luck) in script {
            let input = make(&mut host, step, luck);
            check(&host);
            if let Some(again) = input {
                let repeated = host.take(again, luck);
                prop_assert_eq!(repeated.revisions, Vec::<Vec<_>>::new(), "a repeat changed something");
            }
        }
        // The calls end, and the threads go on: every accepted task reaches an end.
        for call in 0..2 {
            host.take(Input::LetGo(CallId(call)), 0);
        }
        host.ask_again(1);
        let mut patience = 10_000;
        while !host.jobs.is_empty() {
            host.advance(patience % host.jobs.len(), 1);
            patience -= 1;
            prop_assert!(patience > 0, "the threads never end");
        }
        check(&host);
        prop_assert_eq!(host.state.unfinished().next(), None);
        prop_assert!(host.records.values().all(|task| task.state.is_terminal()));
        prop_assert!(host.state.locks.is_empty(), "a lock is left though every task is over");
    }
}

//! The single promises.

use crate::{Answer, Effect, Input, Refusal, Report, Task, Transition};
use common::fault::{Fault, FaultCode};
use common::task::TaskState;

use super::model::{Host, LIMITS, copy, oops, task_id};

/// Finishes at once.
const QUICK: u8 = 0;
/// Notes, passes its commit point, finishes.
const FULL: u8 = 1;

fn answered(transition: &Transition) -> &Task {
    match &transition.reply {
        Ok(Answer::Task(task)) => task,
        other => panic!("{other:?}"),
    }
}

fn refused(transition: &Transition) -> FaultCode {
    match &transition.reply {
        Err(Refusal::Fault(fault)) => fault.code,
        other => panic!("{other:?}"),
    }
}

fn report(host: &mut Host, id: u8, report: Report) -> Transition {
    let task_id = task_id(id);
    host.take(Input::Report { task_id, report }, FULL)
}

#[test]
fn a_task_that_may_run_at_once_is_running_after_one_revision_with_every_edge_shown() {
    let mut host = Host::new();
    let started = host.take(host.start(1, 0), QUICK);
    assert_eq!(answered(&started).state, TaskState::Running);
    assert_eq!(started.revisions.len(), 1);
    let states: Vec<_> = host
        .shown
        .iter()
        .map(|task| (task.sequence, task.state))
        .collect();
    let road = [
        TaskState::Init,
        TaskState::Preparing,
        TaskState::Queued,
        TaskState::Running,
    ];
    assert_eq!(states, (1..).zip(road).collect::<Vec<_>>());
    assert!(matches!(started.effects[..], [Effect::Run(_)]));
}

#[test]
fn the_same_id_runs_once_and_another_operation_is_refused() {
    let mut host = Host::new();
    host.take(host.start(1, 0), QUICK);
    let again = host.take(host.start(1, 0), QUICK);
    assert!(again.revisions.is_empty() && again.effects.is_empty());
    assert_eq!(answered(&again).id, task_id(1));
    assert_eq!(
        refused(&host.take(host.start(1, 1), QUICK)),
        FaultCode::TaskIdReused
    );
    host.advance(0, QUICK);
    host.take(host.clear(1), QUICK);
    let cleared = host.take(host.start(1, 0), QUICK);
    assert!(answered(&cleared).removed && cleared.effects.is_empty());
    assert_eq!(
        refused(&host.take(host.start(1, 1), QUICK)),
        FaultCode::TaskIdReused
    );
}

#[test]
fn a_read_from_before_the_task_ended_starts_nothing_twice() {
    let mut host = Host::new();
    let late = host.start(1, 0);
    host.take(late.clone(), QUICK);
    host.advance(0, QUICK);
    host.take(host.clear(1), QUICK);
    assert_eq!(answered(&host.take(late, QUICK)).state, TaskState::Finished);
}

#[test]
fn an_abort_that_comes_first_is_what_the_start_finds() {
    let mut host = Host::new();
    let aborted = host.take(host.abort(1), QUICK);
    assert_eq!(aborted.revisions.len(), 1);
    let task = answered(&aborted).clone();
    assert_eq!(task.state, TaskState::Recovered);
    assert_eq!(
        task.fault.as_ref().map(|fault| fault.code),
        Some(FaultCode::NeverStarted)
    );
    let started = host.take(host.start(1, 0), QUICK);
    assert_eq!(answered(&started), &task);
    assert!(started.revisions.is_empty() && started.effects.is_empty());
}

#[test]
fn a_full_queue_refuses_and_leaves_nothing_behind() {
    let mut host = Host::new();
    let fill = u8::try_from(LIMITS.running_per_host + LIMITS.queue).unwrap();
    for id in 0..fill {
        assert!(host.take(host.start(id, 0), FULL).reply.is_ok(), "{id}");
    }
    let full = host.take(host.start(100, 0), FULL);
    assert_eq!(refused(&full), FaultCode::QueueFull);
    assert!(full.revisions.is_empty());
    host.take(host.abort(fill - 1), FULL);
    assert!(host.take(host.start(100, 0), FULL).reply.is_ok());
}

#[test]
fn a_task_that_waits_says_for_what_and_aborting_it_runs_nothing() {
    let mut host = Host::new();
    host.take(host.start(1, 1), FULL);
    let waits = host.take(host.start(2, 1), FULL);
    assert!(waits.effects.is_empty());
    let text = &answered(&waits).waiting_for;
    assert!(text.contains(&task_id(1).to_string()), "{text}");
    let aborted = host.take(host.abort(2), FULL);
    assert!(aborted.effects.is_empty());
    assert_eq!(answered(&aborted).state, TaskState::Recovered);
    assert_eq!(
        answered(&aborted).fault.as_ref().map(|f| f.code),
        Some(FaultCode::Aborted)
    );
}

fn state(host: &Host, id: u8) -> TaskState {
    let mut records = host.records.values();
    let found = records.find(|task| task.id == task_id(id));
    found.expect("it was accepted").state
}

#[test]
fn two_copies_of_one_image_run_at_once_and_one_onto_it_waits_and_says_for_what() {
    let mut host = Host::new();
    host.take(host.start_operation(1, copy((0, 0), (0, 1))), FULL);
    host.take(host.start_operation(2, copy((0, 0), (1, 2))), FULL);
    assert_eq!(
        (state(&host, 1), state(&host, 2)),
        (TaskState::Running, TaskState::Running)
    );
    let onto = host.take(host.start_operation(3, copy((1, 0), (0, 0))), FULL);
    assert_eq!(answered(&onto).state, TaskState::Queued);
    // What it waits for is only read; what the next one would read is written to.
    let from = host.take(host.start_operation(4, copy((0, 1), (1, 1))), FULL);
    let text = &answered(&from).waiting_for;
    assert!(text.contains(&task_id(1).to_string()), "{text}");
}

#[test]
fn copies_that_cross_wait_for_the_first_and_all_end() {
    for crash in [false, true] {
        let mut host = Host::new();
        host.take(host.start_operation(1, copy((0, 0), (1, 1))), FULL);
        let back = host.take(host.start_operation(2, copy((1, 1), (0, 0))), FULL);
        assert_eq!(answered(&back).state, TaskState::Queued);
        let text = &answered(&back).waiting_for;
        assert!(text.contains(&task_id(1).to_string()), "{text}");
        host.take(host.start_operation(3, copy((0, 0), (1, 1))), FULL);
        if crash {
            host.crash(FULL);
        }
        while !host.jobs.is_empty() {
            host.advance(0, FULL);
        }
        assert!(host.records.values().all(|task| task.state.is_terminal()));
        assert!(host.state.locks.is_empty());
    }
}

#[test]
fn stopping_a_task_undoes_its_operation_as_long_as_it_can_be_stopped() {
    let mut host = Host::new();
    let started = host.take(host.start_operation(1, copy((0, 0), (0, 1))), FULL);
    let task = answered(&started);
    assert!(
        task.cancelable() && task.undoable() == task.operation.as_ref(),
        "{task:?}"
    );
    let waits = host.take(host.start_operation(2, copy((0, 0), (0, 1))), FULL);
    assert_eq!(
        (answered(&waits).cancelable(), answered(&waits).undoable()),
        (true, None)
    );
    let closed = report(&mut host, 1, Report::CommitPoint);
    assert_eq!(
        (answered(&closed).cancelable(), answered(&closed).undoable()),
        (false, None)
    );
}

#[test]
fn an_abort_whose_undo_fails_is_not_said_to_be_undone() {
    let mut host = Host::new();
    host.take(host.start(1, 0), FULL);
    host.take(host.abort(1), FULL);
    report(&mut host, 1, Report::Stopped);
    let worn = Fault::new(FaultCode::IoError, "worn");
    let failed = report(&mut host, 1, Report::UndoFailed(worn.clone()));
    let task = answered(&failed);
    assert_eq!(
        (task.state, task.undo_fault.as_ref()),
        (TaskState::Failed, Some(&worn))
    );
    let fault = task.fault.as_ref().expect("it was aborted");
    assert_eq!(fault.code, FaultCode::Aborted);
    assert!(!fault.message.contains("undone"), "{fault}");
}

#[test]
fn the_host_decides_the_race_of_an_abort_with_the_commit_point() {
    let mut host = Host::new();
    host.take(host.start(1, 1), FULL);
    report(&mut host, 1, Report::CommitPoint);
    assert_eq!(
        refused(&host.take(host.abort(1), FULL)),
        FaultCode::TaskNotAbortable
    );

    host.take(host.start(2, 2), FULL);
    let aborted = host.take(host.abort(2), FULL);
    assert!(matches!(aborted.effects[..], [Effect::SignalAbort(_)]));
    assert_eq!(
        refused(&report(&mut host, 2, Report::CommitPoint)),
        FaultCode::Aborted
    );
    let past = Report::Noted {
        note: vec![1],
        past_no_return: true,
    };
    assert_eq!(refused(&report(&mut host, 2, past)), FaultCode::Aborted);
    let finished = report(&mut host, 2, Report::Finished);
    assert_eq!(
        answered(&finished).state,
        TaskState::Aborting,
        "it may only be looked at and undone"
    );
}

#[test]
fn a_restart_keeps_the_queue_and_carries_forward_what_was_past_its_point_of_no_return() {
    let mut host = Host::new();
    host.take(host.start(1, 1), FULL);
    report(&mut host, 1, Report::CommitPoint);
    report(
        &mut host,
        1,
        Report::Noted {
            note: vec![7],
            past_no_return: true,
        },
    );
    host.take(host.start(2, 0), FULL);
    host.take(host.start(3, 1), FULL);
    host.crash(QUICK);
    let states = |host: &Host| host.records.values().map(|task| task.state).collect::<Vec<_>>();
    assert_eq!(
        states(&host),
        [TaskState::Aborting, TaskState::Aborting, TaskState::Queued]
    );
    while !host.jobs.is_empty() {
        host.advance(0, QUICK);
    }
    assert_eq!(
        states(&host),
        [TaskState::Finished, TaskState::Recovered, TaskState::Finished]
    );
    let fault = host.records.values().nth(1).and_then(|task| task.fault.clone());
    assert_eq!(fault.map(|fault| fault.code), Some(FaultCode::Interrupted));
}

#[test]
fn what_an_engine_asked_for_and_was_not_begun_waits_after_a_restart_until_it_is_asked_for_again() {
    let mut host = Host::owned();
    host.take(host.start(1, 1), FULL);
    for id in [2, 3] {
        host.take(host.start(id, 1), FULL);
    }
    host.crash(QUICK);
    while !host.jobs.is_empty() {
        host.advance(0, QUICK);
    }
    let state_of = |host: &Host, id| host.known(task_id(id)).task.map(|task| (task.state, task.held));
    assert_eq!(
        state_of(&host, 2),
        Some((TaskState::Queued, true)),
        "nobody has asked for it"
    );
    host.reload(QUICK);
    host.take(host.start(2, 1), FULL);
    assert_eq!(state_of(&host, 2), Some((TaskState::Running, false)));
    host.take(host.abort(3), QUICK);
    assert_eq!(
        state_of(&host, 3),
        Some((TaskState::Recovered, false)),
        "nothing of it ran"
    );
    host.reload(QUICK);
    while !host.jobs.is_empty() {
        host.advance(0, QUICK);
    }
    assert_eq!(state_of(&host, 2), Some((TaskState::Finished, false)));
    assert!(host.state.locks.is_empty());
}

#[test]
fn a_fault_from_before_a_restart_is_the_one_that_is_shown_after_it() {
    let mut host = Host::new();
    host.take(host.start(1, 1), FULL);
    report(&mut host, 1, Report::Failed(oops()));
    host.crash(QUICK);
    while !host.jobs.is_empty() {
        host.advance(0, QUICK);
    }
    let task = host.records.values().next().unwrap();
    assert_eq!(
        (task.state, task.fault.clone()),
        (TaskState::Recovered, Some(oops()))
    );
}

#[test]
fn a_process_that_cannot_be_killed_keeps_its_task_and_its_locks() {
    let mut host = Host::new();
    host.take(host.start(1, 1), FULL);
    report(&mut host, 1, Report::Failed(oops()));
    let stuck = report(&mut host, 1, Report::Stuck(oops()));
    assert_eq!(answered(&stuck).state, TaskState::Aborting);
    assert!(!answered(&stuck).waiting_for.is_empty());
    assert!(report(&mut host, 1, Report::Stuck(oops())).revisions.is_empty());
    assert!(host.take(host.start(2, 1), FULL).effects.is_empty());
}

#[test]
fn only_what_is_over_can_be_cleared_and_its_outcome_stays() {
    let mut host = Host::new();
    host.take(host.start(1, 0), QUICK);
    assert_eq!(
        refused(&host.take(host.clear(1), QUICK)),
        FaultCode::TaskNotFinished
    );
    assert_eq!(host.take(host.clear(9), QUICK).reply, Ok(Answer::NoTask));
    host.advance(0, QUICK);
    let cleared = host.take(host.clear(1), QUICK);
    assert!(answered(&cleared).removed);
    assert_eq!(answered(&cleared).state, TaskState::Finished);
    assert!(host.take(host.clear(1), QUICK).revisions.is_empty());
}

#[test]
fn what_stopped_a_task_and_why_it_could_not_be_undone_are_both_kept() {
    let mut host = Host::new();
    host.take(host.start(1, 0), FULL);
    report(&mut host, 1, Report::Failed(oops()));
    report(&mut host, 1, Report::Stopped);
    let undo = common::Fault::new(FaultCode::FileSystemReadOnly, "mounted read-only meanwhile");
    report(&mut host, 1, Report::UndoFailed(undo.clone()));
    let task = host.shown.last().unwrap();
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(
        (task.fault.clone(), task.undo_fault.clone()),
        (Some(oops()), Some(undo))
    );
}

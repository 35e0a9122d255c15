//! The step function. [`Tx`] collects the results of one input.

mod abort;
mod call;
mod clear;
mod host;
mod recover;
mod report;
mod start;

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::revision::Revision;
use common::task::{IllegalMove, TaskEvent};
use common::time::Timestamp;

use crate::change::{Answer, Change, Effect, Refusal, Reply, Transition};
use crate::input::{Caller, Input};
use crate::owner;
use crate::state::{State, lane};
use crate::task::Task;

/// The maximum number of changes in a revision: with the longest descriptions, this is still well under 1 MiB. Only a
/// restart, or the end of a call that blocked very many tasks, makes more.
const CHANGES_PER_REVISION: usize = 24;

impl State {
    /// Takes one input, changes the state, and returns what must be recorded, done and answered.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Transition {
        let mut tx = Tx {
            base: self.revision,
            state: self,
            now,
            changes: Vec::new(),
            effects: Vec::new(),
        };
        let reply = tx.take(input);
        tx.start_all_whose_turn_it_is();
        tx.finish(reply)
    }
}

/// The results of one input so far.
struct Tx<'a> {
    state: &'a mut State,
    base: Revision,
    now: Timestamp,
    changes: Vec<Change>,
    effects: Vec<Effect>,
}

impl Tx<'_> {
    fn take(&mut self, input: Input) -> Reply {
        match input {
            Input::Recover { alive } => self.recover(&alive),
            Input::Start(start) => self.start(start),
            Input::Abort {
                caller,
                task_id,
                correlation_id,
                known,
            } => self.abort(caller, task_id, correlation_id, known),
            Input::Clear {
                caller,
                task_id,
                known,
            } => self.clear(caller, task_id, known),
            Input::Claim(claim) => self.claim(&claim),
            Input::Release(caller) => self.release(caller),
            Input::Hold { caller, call, keys } => self.hold(caller, call, &keys),
            Input::LetGo(call) => self.let_go(call),
            Input::Report { task_id, report } => self.report(task_id, report),
            Input::Age { clear, forget } => self.age(clear, forget),
        }
    }

    /// Checks that the caller may change something. Records a higher epoch of the owner.
    fn admit(&mut self, caller: &Caller) -> Result<(), Refusal> {
        let newer = owner::admit(self.state.owner(), self.state.store_id, caller)?;
        if let Some(owner) = newer {
            self.change(Change::Owner(owner));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        let number = self.changes.len() / CHANGES_PER_REVISION;
        let revision = Revision(self.base.0 + 1 + number as u64);
        self.state.apply(&change, revision);
        if let Change::Owner(owner) = &change {
            self.effects.push(Effect::Fence(owner.clone()));
        }
        self.changes.push(change);
    }

    /// One transition, shown to watchers.
    fn edge(&mut self, task: Arc<Task>, event: TaskEvent) -> Result<Arc<Task>, Refusal> {
        let task = Arc::unwrap_or_clone(task)
            .moved(event, self.now)
            .map_err(illegal)?;
        Ok(self.shown(task))
    }

    /// Another visible change of a task than its state.
    fn show(&mut self, task: Arc<Task>) -> Arc<Task> {
        let mut task = Arc::unwrap_or_clone(task);
        task.sequence += 1;
        self.shown(task)
    }

    /// Records a task whose sequence was already incremented.
    fn shown(&mut self, task: Task) -> Arc<Task> {
        let task = Arc::new(task);
        self.change(Change::Task(Arc::clone(&task)));
        task
    }

    /// Starts every task that has its locks and may run. Each input ends with this, so no task waits without a reason.
    fn start_all_whose_turn_it_is(&mut self) {
        while let Some(ordinal) = self.state.run_queue.next() {
            let Some(task) = self.state.at(ordinal).cloned() else {
                break;
            };
            let lane = lane(&task);
            match self.edge(task, TaskEvent::Run) {
                Ok(task) => self.effects.push(Effect::Run(task)),
                // Not a queued task after all: it must not be chosen again and again.
                Err(_) => self.state.run_queue.withdraw(ordinal, lane),
            }
        }
    }

    fn finish(self, reply: Reply) -> Transition {
        let mut revisions = Vec::new();
        let mut changes = self.changes.into_iter().peekable();
        while changes.peek().is_some() {
            revisions.push(changes.by_ref().take(CHANGES_PER_REVISION).collect());
        }
        self.state.revision = Revision(self.base.0 + revisions.len() as u64);
        Transition {
            revisions,
            effects: self.effects,
            reply,
        }
    }
}

fn task(task: Arc<Task>) -> Reply {
    Ok(Answer::Task(task))
}

fn illegal(error: IllegalMove) -> Refusal {
    Refusal::Fault(Fault::new(
        FaultCode::Internal,
        format!("{error}; this is a defect of the host: please report it"),
    ))
}

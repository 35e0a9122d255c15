//! AbortTask: the request is recorded, and the host decides the race with the task's commit point.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use common::task::{TaskEvent, TaskState};

use super::{Tx, task};
use crate::change::{Effect, Refusal, Reply};
use crate::input::{Caller, Known};
use crate::task::{Asked, Task};

impl Tx<'_> {
    pub(super) fn abort(
        &mut self,
        caller: Caller,
        task_id: TaskId,
        correlation_id: String,
        known: Known,
    ) -> Reply {
        self.admit(&caller)?;
        if let Some(live) = self.state.live(task_id) {
            return self.abort_unfinished(live);
        }
        match self.state.recent.resolve(task_id, known)? {
            Some(over) => task(over),
            None => self.never_started(caller, task_id, correlation_id),
        }
    }

    fn abort_unfinished(&mut self, mut live: Arc<Task>) -> Reply {
        match live.state {
            TaskState::Init | TaskState::Preparing | TaskState::Queued => {
                let begun = Arc::make_mut(&mut live);
                begun.abort_requested = true;
                begun.blame(aborted("it had not started to run"));
                task(self.straight_back(live)?)
            }
            TaskState::Running if live.abort_closed => Err(Refusal::Fault(
                Fault::new(
                    FaultCode::TaskNotAbortable,
                    "the task is past its point of no return and continues: wait until it ends",
                )
                .about(live.id),
            )),
            TaskState::Running => {
                let begun = Arc::make_mut(&mut live);
                begun.abort_requested = true;
                // Recorded before the task is undone, and kept if that fails: the state says which.
                begun.blame(aborted("it had started to run"));
                let aborting = self.edge(live, TaskEvent::Abort)?;
                self.effects.push(Effect::SignalAbort(aborting.id));
                task(aborting)
            }
            // It is being stopped or undone already; the request is recorded all the same.
            TaskState::Aborting | TaskState::Recovering if !live.abort_requested => {
                Arc::make_mut(&mut live).abort_requested = true;
                task(self.show(live))
            }
            TaskState::Aborting
            | TaskState::Recovering
            | TaskState::Finished
            | TaskState::Recovered
            | TaskState::Failed => task(live),
        }
    }

    /// The record that makes a later StartTask start nothing.
    fn never_started(&mut self, caller: Caller, id: TaskId, correlation_id: String) -> Reply {
        let engine_id = caller.engine.map(|engine| engine.engine_id);
        let ordinal = self.state.next_ordinal;
        let asked = Asked {
            start: self.state.start,
            engine_id,
            correlation_id,
        };
        let mut init = Task::init(ordinal, id, None, asked, self.now);
        init.abort_requested = true;
        let message = "the task was aborted before this host received it; nothing of it has run or will run";
        init.blame(Fault::new(FaultCode::NeverStarted, message).about(id));
        let init = self.shown(init);
        task(self.straight_back(init)?)
    }

    /// Ends the task; there is nothing to undo.
    fn straight_back(&mut self, task: Arc<Task>) -> Result<Arc<Task>, Refusal> {
        let aborting = self.edge(task, TaskEvent::Abort)?;
        let recovering = self.edge(aborting, TaskEvent::Recover)?;
        self.edge(recovering, TaskEvent::Undone)
    }
}

fn aborted(what: &str) -> Fault {
    Fault::new(
        FaultCode::Aborted,
        format!("the task was aborted on request: {what}"),
    )
}

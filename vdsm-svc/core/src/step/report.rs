//! Reports about running tasks. Each may come twice, late, or for a task that has ended: then it changes nothing.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use common::task::{TaskEvent, TaskState};

use super::{Tx, task};
use crate::change::{Answer, Change, Refusal, Reply};
use crate::input::Report;
use crate::task::Task;

impl Tx<'_> {
    /// Answers with the task as it is now, which tells its thread what to do next.
    pub(super) fn report(&mut self, id: TaskId, report: Report) -> Reply {
        let Some(live) = self.state.live(id) else {
            return Ok(Answer::NoTask);
        };
        let now = match report {
            Report::Noted { note, past_no_return } => self.noted(live, note, past_no_return)?,
            Report::CommitPoint => self.commit_point(live)?,
            Report::Finished => self.finished(live)?,
            Report::Failed(fault) => self.failed(live, fault)?,
            Report::Stuck(fault) => self.stuck(live, fault),
            Report::Stopped => self.stopped(live)?,
            Report::Undone => self.undone(live)?,
            Report::UndoFailed(fault) => self.undo_failed(live, fault)?,
        };
        task(now)
    }

    fn noted(
        &mut self,
        mut live: Arc<Task>,
        note: Vec<u8>,
        past_no_return: bool,
    ) -> Result<Arc<Task>, Refusal> {
        if !live.has_place() {
            return Ok(live);
        }
        if past_no_return && live.state == TaskState::Aborting {
            return Err(abort_came_first(&live));
        }
        let shown = past_no_return && live.cancelable();
        if live.note == note && live.past_no_return >= past_no_return && !shown {
            return Ok(live);
        }
        let noted = Arc::make_mut(&mut live);
        noted.note = note;
        noted.past_no_return |= past_no_return;
        noted.abort_closed |= past_no_return;
        if shown {
            return Ok(self.show(live));
        }
        self.change(Change::Noted(Arc::clone(&live)));
        Ok(live)
    }

    fn commit_point(&mut self, mut live: Arc<Task>) -> Result<Arc<Task>, Refusal> {
        match live.state {
            TaskState::Aborting => Err(abort_came_first(&live)),
            TaskState::Running if !live.abort_closed => {
                Arc::make_mut(&mut live).abort_closed = true;
                Ok(self.show(live))
            }
            _ => Ok(live),
        }
    }

    /// A task that is being aborted does not finish here: its thread continues, stops the operation and checks what
    /// took effect.
    fn finished(&mut self, live: Arc<Task>) -> Result<Arc<Task>, Refusal> {
        match live.state {
            TaskState::Running | TaskState::Recovering => self.edge(live, TaskEvent::Finish),
            _ => Ok(live),
        }
    }

    fn failed(&mut self, mut live: Arc<Task>, fault: Fault) -> Result<Arc<Task>, Refusal> {
        match live.state {
            TaskState::Running => {
                Arc::make_mut(&mut live).blame(fault);
                self.edge(live, TaskEvent::Abort)
            }
            _ => Ok(live),
        }
    }

    fn stuck(&mut self, mut live: Arc<Task>, fault: Fault) -> Arc<Task> {
        let text = "a process of it that cannot be killed; nothing is undone until it ends";
        if live.state != TaskState::Aborting || live.waiting_for == text {
            return live;
        }
        Arc::make_mut(&mut live).blame(fault);
        Arc::make_mut(&mut live).waiting_for = text.into();
        self.show(live)
    }

    fn stopped(&mut self, mut live: Arc<Task>) -> Result<Arc<Task>, Refusal> {
        match live.state {
            TaskState::Aborting => {
                Arc::make_mut(&mut live).waiting_for.clear();
                self.edge(live, TaskEvent::Recover)
            }
            _ => Ok(live),
        }
    }

    fn undone(&mut self, mut live: Arc<Task>) -> Result<Arc<Task>, Refusal> {
        match live.state {
            TaskState::Recovering => {
                Arc::make_mut(&mut live).blame(interrupted());
                self.edge(live, TaskEvent::Undone)
            }
            _ => Ok(live),
        }
    }

    fn undo_failed(&mut self, mut live: Arc<Task>, fault: Fault) -> Result<Arc<Task>, Refusal> {
        if !live.has_place() {
            return Ok(live);
        }
        Arc::make_mut(&mut live).blame(fault.clone());
        if live.state == TaskState::Running {
            live = self.edge(live, TaskEvent::Abort)?;
        }
        Arc::make_mut(&mut live).undo_fault = Some(fault);
        self.edge(live, TaskEvent::GiveUp)
    }
}

fn abort_came_first(live: &Task) -> Refusal {
    let message = "the task is being aborted and must not take effect any more";
    Refusal::Fault(Fault::new(FaultCode::Aborted, message).about(live.id))
}

/// Only a restart aborts a task without a fault.
fn interrupted() -> Fault {
    Fault::new(
        FaultCode::Interrupted,
        "the service ended while the task was running, and the task was undone; send it again if it is still wanted",
    )
}

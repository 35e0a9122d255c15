//! ClearTask, and the expiry of tasks.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::TaskId;

use super::{Tx, task};
use crate::change::{Answer, Change, Refusal, Reply};
use crate::input::{Caller, Known};
use crate::task::{Ordinal, Task};

impl Tx<'_> {
    pub(super) fn clear(&mut self, caller: Caller, task_id: TaskId, known: Known) -> Reply {
        self.admit(&caller)?;
        if let Some(live) = self.state.task(task_id) {
            return Err(Refusal::Fault(
                Fault::new(
                    FaultCode::TaskNotFinished,
                    "the task has not ended: wait until it ends, or abort it first",
                )
                .about(live.id),
            ));
        }
        match self.state.recent.resolve(task_id, known)? {
            Some(over) => task(self.removed(over)),
            None => Ok(Answer::NoTask),
        }
    }

    /// A task that has changed since the store was read is left for the next time.
    pub(super) fn age(&mut self, clear: Vec<Known>, forget: Vec<(Ordinal, TaskId)>) -> Reply {
        for known in clear {
            let Some(id) = known.task.as_ref().map(|task| task.id) else {
                continue;
            };
            let over = self.state.recent.resolve(id, known);
            if let Ok(Some(over)) = over
                && over.engine_id.is_none()
            {
                self.removed(over);
            }
        }
        for (ordinal, id) in forget {
            self.change(Change::Forgotten { ordinal, id });
        }
        Ok(Answer::Done)
    }

    /// The last change of a task.
    fn removed(&mut self, mut over: Arc<Task>) -> Arc<Task> {
        if over.removed {
            return over;
        }
        let cleared = Arc::make_mut(&mut over);
        cleared.removed = true;
        cleared.clear_time = Some(self.now);
        self.show(over)
    }
}

//! After a load: decides about the unfinished tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::id::TaskId;
use common::task::{TaskEvent, TaskState};

use super::Tx;
use crate::change::{Answer, Effect, Reply};
use crate::task::{Ordinal, Task};

/// What a held task waits for.
const HELD: &str = "its engine to send it again, because the host has restarted";

impl Tx<'_> {
    /// Waiting tasks that no engine started keep their position in the queue; those of an engine wait until it sends
    /// them again. A task that was running is stopped, and then finished or undone according to its note and storage.
    /// A task that a thread of this process is still running (the store failed and was reopened) is left to that
    /// thread, which repeats its report.
    pub(super) fn recover(&mut self, alive: &BTreeSet<TaskId>) -> Reply {
        let ordinals: Vec<Ordinal> = self.state.unfinished().map(|task| task.ordinal).collect();
        for ordinal in ordinals {
            let Some(task) = self.state.at(ordinal).cloned() else {
                continue;
            };
            if alive.contains(&task.id) {
                if task.state == TaskState::Aborting {
                    self.effects.push(Effect::SignalAbort(task.id));
                }
                continue;
            }
            self.recover_one(task)?;
        }
        Ok(Answer::Done)
    }

    fn recover_one(&mut self, mut task: Arc<Task>) -> Reply {
        if task.is_held_in(self.state.start) && !task.held {
            let held = Arc::make_mut(&mut task);
            held.held = true;
            held.waiting_for = HELD.into();
            task = self.show(task);
        }
        match task.state {
            TaskState::Init => {
                let preparing = self.edge(task, TaskEvent::Accept)?;
                self.edge(preparing, TaskEvent::Enqueue)?;
            }
            TaskState::Preparing => {
                self.edge(task, TaskEvent::Enqueue)?;
            }
            TaskState::Running => {
                let aborting = self.edge(task, TaskEvent::Abort)?;
                self.effects.push(Effect::Recover(aborting));
            }
            TaskState::Aborting | TaskState::Recovering => {
                self.effects.push(Effect::Recover(task));
            }
            TaskState::Queued | TaskState::Finished | TaskState::Recovered | TaskState::Failed => {}
        }
        Ok(Answer::Done)
    }
}

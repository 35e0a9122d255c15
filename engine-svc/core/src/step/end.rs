//! The end of a tree: people are told, and the hosts may forget its tasks.

use common::id::{HostId, TaskId};

use super::tx::Tx;
use crate::effect::Effect;
use crate::model::{
    AsyncTaskEvent, AsyncTaskState, Command, CommandParameters as _, CommandState, EventCode, Purpose,
};
use crate::plan::{self, Following};

impl Tx<'_> {
    /// Follows the change that made a root terminal, which also freed its locks. Not for a root that never began.
    pub(super) fn root_ended(&mut self, root: &Command) {
        self.release_tasks(root);
        let Some(host_id) = root.parameters.called_host() else {
            return;
        };
        for following in plan::ended(self.state, root) {
            match following {
                Following::Anew => self.effect(Effect::Resync { host_id }),
                Following::LookedThrough => self.want_inventory(host_id),
                Following::TasksForgotten => {
                    for task_id in self.state.tasks_on(host_id) {
                        self.clear_locally(task_id);
                    }
                }
                Following::NoLonger => self.unfollow(host_id),
            }
        }
    }

    /// Nothing known about the connection outlives it: the host may come back as one that does not answer.
    fn unfollow(&mut self, host_id: HostId) {
        self.state.volatile.forget(host_id);
        self.state.volatile.met.remove(&host_id);
        self.effect(Effect::Unfollow { host_id });
    }

    /// Emits the event of a root's end.
    pub(super) fn emit_end(&mut self, root: &Command) {
        let Some(code) = EventCode::of_end(root.kind(), root.state) else {
            return;
        };
        let code = if root.abandoned_by.is_some() {
            EventCode::CommandAbandoned
        } else {
            code
        };
        let outcome = match (root.state, &root.fault) {
            (CommandState::Succeeded, _) => "done".to_owned(),
            (CommandState::Cancelled, _) => "cancelled, nothing was changed".to_owned(),
            (_, Some(fault)) => fault.to_string(),
            (_, None) => "failed".to_owned(),
        };
        let left: Vec<String> = root.left_behind.iter().map(ToString::to_string).collect();
        let left = if left.is_empty() {
            String::new()
        } else {
            format!("; left behind: {}", left.join(", "))
        };
        let message = format!("{}: {outcome}{left}", root.parameters.describe());
        self.emit(code, root, &root.user, message);
    }

    /// From now on the tree's tasks are kept only until their hosts have confirmed the clear.
    pub(super) fn release_tasks(&mut self, root: &Command) {
        for id in self.state.tree_of(root.id) {
            let tasks = self
                .state
                .command(id)
                .map_or_else(Vec::new, |command| command.tasks.clone());
            for task_id in tasks {
                self.release_task(task_id);
            }
        }
    }

    fn release_task(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        if task.async_state != AsyncTaskState::Ended {
            return;
        }
        let host_has_it = task.reported.is_some_and(|state| state.is_terminal());
        if host_has_it {
            self.move_task(task_id, &[AsyncTaskEvent::Release], |task| {
                task.waiting_for = None
            });
            self.ask(task_id);
        } else {
            // The task was refused, or settled by what storage shows: the host has nothing to clear.
            self.clear_locally(task_id);
        }
    }

    pub(super) fn clear_locally(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        let event = match (task.async_state, task.purpose) {
            (AsyncTaskState::Cleared, _) => return,
            (_, Purpose::Foreign) => AsyncTaskEvent::Vanish,
            (_, Purpose::Do | Purpose::Undo) => AsyncTaskEvent::Clear,
        };
        self.move_task(task_id, &[event], |task| task.waiting_for = None);
    }
}

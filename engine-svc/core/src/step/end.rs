//! The end of a tree: people are told, and the hosts may forget its tasks.

use common::id::{HostId, TaskId};

use super::tx::Tx;
use crate::effect::Effect;
use crate::model::{AsyncTaskEvent, AsyncTaskState, Command, CommandState, EventCode, Parameters, Purpose};
use crate::plan;

impl Tx<'_> {
    /// After the change that made a root terminal; its locks are free by that very change.
    pub(super) fn root_ended(&mut self, root: &Command) {
        self.tell_end(root);
        self.release_tasks(root);
        match (&root.parameters, root.state) {
            (Parameters::AddHost(p), CommandState::Succeeded) => {
                // A stream may be open since before the host was ours, and nothing of it was taken in.
                self.effect(Effect::Resync { host_id: p.host_id });
            }
            (Parameters::TakeOverHost(p), CommandState::Succeeded) => {
                self.effect(Effect::Resync { host_id: p.host_id });
                // Whoever had it has changed what is there.
                self.want_inventory(p.host_id);
            }
            (Parameters::TakeOverHost(p), _) if self.state.host(p.host_id).is_none() => {
                self.unfollow(p.host_id);
            }
            (Parameters::AddHost(p), _) => self.unfollow(p.host_id),
            (Parameters::RemoveHost(p), CommandState::Succeeded) => {
                for task_id in self.state.tasks_on(p.host_id) {
                    self.clear_locally(task_id);
                }
                self.unfollow(p.host_id);
            }
            // It stays ours, or is followed as before.
            (Parameters::RemoveHost(_) | Parameters::TakeOverHost(_), _) => {}
            (
                Parameters::CreateStorageDomain(_)
                | Parameters::CreateVm(_)
                | Parameters::CreateImage(_)
                | Parameters::RemoveVm(_)
                | Parameters::RemoveAllVmImages(_)
                | Parameters::RemoveImage(_)
                | Parameters::CreateDisk(_)
                | Parameters::RemoveDisk(_)
                | Parameters::AttachDisk(_)
                | Parameters::DetachDisk(_)
                | Parameters::CopyDisk(_)
                | Parameters::CopyImage(_),
                _,
            ) => {}
        }
    }

    /// Nothing that is known of the connection outlives it: the host may come back as one that does not answer.
    fn unfollow(&mut self, host_id: HostId) {
        self.state.volatile.forget(host_id);
        self.effect(Effect::Unfollow { host_id });
    }

    fn tell_end(&mut self, root: &Command) {
        let Some(code) = plan::end_code(root.kind(), root.state) else {
            return;
        };
        let code = if root.abandoned_by.is_some() {
            EventCode::CommandAbandoned
        } else {
            code
        };
        let outcome = match (root.state, &root.fault) {
            (CommandState::Succeeded, _) => "done".to_owned(),
            (CommandState::Cancelled, _) => "stopped, nothing has changed".to_owned(),
            (_, Some(fault)) => fault.to_string(),
            (_, None) => "failed".to_owned(),
        };
        let left: Vec<String> = root.left_behind.iter().map(ToString::to_string).collect();
        let left = if left.is_empty() {
            String::new()
        } else {
            format!("; left behind: {}", left.join(", "))
        };
        let message = format!("{}: {outcome}{left}", plan::describe(&root.parameters));
        self.tell(code, root, &root.user, message);
    }

    /// From now on the tree's tasks are only kept until their hosts have confirmed the clear.
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
            // Refused, or decided by what storage shows: there is nothing at the host to clear.
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

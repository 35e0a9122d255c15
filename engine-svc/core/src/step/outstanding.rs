//! The work still to be done, as it follows from the records: there is no queue that could be lost.

use common::id::HostId;

use crate::effect::Effect;
use crate::model::{AsyncTask, AsyncTaskState, Command, CommandParameters as _, CommandState, EntityKey};
use crate::plan;
use crate::state::State;

impl State {
    /// All effects that are due on a host, in the order in which to perform them.
    pub fn outstanding(&self, host_id: HostId) -> Vec<Effect> {
        let calls = self
            .calls_to(host_id)
            .into_iter()
            .filter_map(|id| self.call_of(self.command(id)?));
        let tasks = self
            .tasks_on(host_id)
            .into_iter()
            .filter_map(|id| self.ask_of(self.task(id)?));
        let disks = self
            .unobserved()
            .filter_map(|id| self.look_at(EntityKey::Disk(id)));
        let here =
            |effect: &Effect| matches!(effect, Effect::ObserveDisk { host_id: at, .. } if *at == host_id);
        let inventory = self.inventory_of(host_id);
        calls
            .chain(tasks)
            .chain(disks.filter(here))
            .chain(inventory)
            .collect()
    }

    /// What the host is to be asked about a task.
    pub(crate) fn ask_of(&self, task: &AsyncTask) -> Option<Effect> {
        let (host_id, task_id) = (task.host_id, task.id);
        task.command?;
        // Records that an interrupted start has left are not wanted before the start.
        let waits = |root: &Command| root.state == CommandState::Pending;
        if task.root.and_then(|root| self.command(root)).is_some_and(waits) {
            return None;
        }
        let host = self.host(host_id)?;
        let operation = task.operation.clone()?;
        let probe = Effect::ProbeTask {
            host_id,
            task_id,
            operation: operation.clone(),
            correlation_id: task.correlation_id.clone(),
        };
        let undecided = self.is_undecided(task);
        match task.async_state {
            AsyncTaskState::Initializing | AsyncTaskState::Watching if undecided => Some(probe),
            AsyncTaskState::Initializing | AsyncTaskState::Watching
                if task.abort_wanted
                    && (task.cancelable || task.async_state == AsyncTaskState::Initializing) =>
            {
                Some(Effect::AbortTask {
                    host_id,
                    task_id,
                    store_id: host.store_id,
                    correlation_id: task.correlation_id.clone(),
                })
            }
            AsyncTaskState::Initializing | AsyncTaskState::Watching if self.is_to_be_asked_for(task) => {
                Some(Effect::StartTask {
                    host_id,
                    task_id,
                    operation,
                    store_id: host.store_id,
                    correlation_id: task.correlation_id.clone(),
                })
            }
            AsyncTaskState::Ended if self.is_examined_again(task) => Some(probe),
            AsyncTaskState::AttemptingEndAction | AsyncTaskState::ClearFailed => Some(Effect::ClearTask {
                host_id,
                task_id,
                correlation_id: task.correlation_id.clone(),
            }),
            AsyncTaskState::Initializing
            | AsyncTaskState::Watching
            | AsyncTaskState::Ended
            | AsyncTaskState::Cleared => None,
        }
    }

    /// The call that a command's host is due.
    pub(crate) fn call_of(&self, command: &Command) -> Option<Effect> {
        Some(Effect::Call {
            host_id: command.parameters.called_host()?,
            command_id: command.id,
            call: plan::call(command)?,
            correlation_id: command.correlation_id.clone(),
        })
    }

    /// How to follow the host of an unfinished command, if the host is not recorded.
    pub(crate) fn follows(&self, command: &Command) -> Option<Effect> {
        let (address, identity) = plan::calling(command)?.follows(self)?;
        Some(Effect::Follow {
            host_id: command.parameters.called_host()?,
            address: address.to_owned(),
            identity: identity.to_owned(),
        })
    }

    /// The effect that looks at a disk.
    pub(crate) fn look_at(&self, key: EntityKey) -> Option<Effect> {
        let EntityKey::Disk(disk_id) = key else {
            return None;
        };
        let domain_id = self.disk(disk_id)?.spec.domain_id;
        Some(Effect::ObserveDisk {
            host_id: self.domain(domain_id)?.host_id,
            disk_id,
            domain_id,
        })
    }

    /// Whether only storage can tell what became of a task: its host has lost its memory of the task, or may have.
    pub(crate) fn is_undecided(&self, task: &AsyncTask) -> bool {
        let ours = task.command.is_some();
        self.is_of_lost_store(task) || ours && (self.is_unproven(task) || task.is_doubted())
    }

    /// Whether an open task was given to a store that its host has lost.
    pub(crate) fn is_of_lost_store(&self, task: &AsyncTask) -> bool {
        let present = self.host(task.host_id).and_then(|host| host.store_id);
        task.is_open() && task.store_id.is_some() && task.store_id != present
    }

    /// Whether an open task was sent to an earlier start of its host, and nothing shows that the present start knows
    /// it.
    fn is_unproven(&self, task: &AsyncTask) -> bool {
        let present = self.host(task.host_id).and_then(|host| host.start);
        task.is_open() && task.host_sequence == 0 && task.start.is_some() && task.start != present
    }

    /// Whether the host waits for the engine to send a task: the task was never sent, or the host was started anew
    /// since, and a host begins nothing for an engine that may no longer want it. A task that is to be stopped and cannot be is
    /// sent again as well: it goes on, and the answer says what has become of it, if the stream ever said otherwise.
    fn is_to_be_asked_for(&self, task: &AsyncTask) -> bool {
        let present = self.host(task.host_id).and_then(|host| host.start);
        task.async_state == AsyncTaskState::Initializing
            || task.abort_wanted
            || task.start.is_some() && task.start != present
    }

    /// Whether an operator wants storage examined once more for a task that storage did not tell about.
    pub(crate) fn is_examined_again(&self, task: &AsyncTask) -> bool {
        task.command
            .and_then(|id| self.command(id))
            .is_some_and(|command| plan::examines_again(command, task))
    }
}

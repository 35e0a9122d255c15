//! Counts and indexes that follow from the records, kept so that no decision has to count a thousand children.

use std::collections::BTreeSet;

use common::id::{CommandId, DomainId, HostId, TaskId};
use common::lock::Mode;

use super::State;
use crate::model::{AsyncTask, AsyncTaskState, Command, CommandParameters as _, CommandState, EntityKey};

/// The children of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Family {
    /// The children that have not ended, in the order of their recording.
    pub(crate) open: BTreeSet<(u64, CommandId)>,
    /// The open children that need attention.
    pub(crate) resting: BTreeSet<(u64, CommandId)>,
    /// The number of open children that can only fail.
    pub(crate) bound_to_fail: usize,
    /// The number of children that succeeded.
    pub(crate) succeeded: usize,
    /// The number of children that failed.
    pub(crate) failed: usize,
    /// The number of children that were stopped.
    pub(crate) cancelled: usize,
}

impl Family {
    /// Whether some child has not ended well, or cannot.
    pub(crate) const fn broken(&self) -> bool {
        self.bound_to_fail + self.failed + self.cancelled > 0
    }

    pub(super) fn count(&mut self, child: &Command) {
        match child.state {
            CommandState::Succeeded => self.succeeded += 1,
            CommandState::Failed => self.failed += 1,
            CommandState::Cancelled => self.cancelled += 1,
            CommandState::Pending
            | CommandState::Active
            | CommandState::Compensating
            | CommandState::NeedsAttention => {
                self.open.insert((child.seq, child.id));
                self.bound_to_fail += usize::from(child.fault.is_some());
                if child.state == CommandState::NeedsAttention {
                    self.resting.insert((child.seq, child.id));
                }
            }
        }
    }

    pub(super) fn forget(&mut self, child: &Command) {
        match child.state {
            CommandState::Succeeded => self.succeeded -= 1,
            CommandState::Failed => self.failed -= 1,
            CommandState::Cancelled => self.cancelled -= 1,
            CommandState::Pending
            | CommandState::Active
            | CommandState::Compensating
            | CommandState::NeedsAttention => {
                self.open.remove(&(child.seq, child.id));
                self.bound_to_fail -= usize::from(child.fault.is_some());
                self.resting.remove(&(child.seq, child.id));
            }
        }
    }
}

/// One tree of commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Counts the changes of the tree's commands and tasks from 1, without gaps.
    pub(crate) sequence: u64,
    /// The bytes that the tree's commands work on.
    pub(crate) total_bytes: u64,
    /// The bytes that the succeeded commands worked on.
    pub(crate) done_bytes: u64,
    /// The number of tasks that are not over, for any purpose.
    pub(crate) open: usize,
    /// The number of tasks that are not cleared.
    pub(crate) uncleared: usize,
}

impl Tree {
    pub(super) fn count_command(&mut self, command: &Command) {
        let bytes = command.parameters.bytes();
        self.total_bytes += bytes;
        if command.state == CommandState::Succeeded {
            self.done_bytes += bytes;
        }
    }

    pub(super) fn forget_command(&mut self, command: &Command) {
        let bytes = command.parameters.bytes();
        self.total_bytes -= bytes;
        if command.state == CommandState::Succeeded {
            self.done_bytes -= bytes;
        }
    }

    pub(super) fn count(&mut self, task: &AsyncTask) {
        self.open += usize::from(task.is_open());
        self.uncleared += usize::from(task.async_state != AsyncTaskState::Cleared);
    }

    pub(super) fn forget(&mut self, task: &AsyncTask) {
        self.open -= usize::from(task.is_open());
        self.uncleared -= usize::from(task.async_state != AsyncTaskState::Cleared);
    }
}

/// What is known of one host, and what is to be done there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostWork {
    /// The host's tasks that are not cleared, including foreign ones.
    pub(crate) tasks: BTreeSet<TaskId>,
    /// The foreign ones of these tasks.
    pub(crate) foreign: BTreeSet<TaskId>,
    /// Unfinished commands that call the host.
    pub(crate) calls: BTreeSet<CommandId>,
    /// The storage domains that the host serves.
    pub(crate) domains: BTreeSet<DomainId>,
}

/// What a task that is none of ours holds: its domains, in which others work as well, and each disk as it touches it.
pub(super) fn foreign_locks(task: &AsyncTask) -> Vec<(EntityKey, Mode)> {
    let Some(operation) = &task.operation else {
        return Vec::new();
    };
    let domains = operation.domains().into_iter();
    let disks = operation.touches().into_iter();
    disks
        .map(|touch| (EntityKey::Disk(touch.image.disk()), touch.mode))
        .chain(domains.map(|domain| (EntityKey::Domain(domain), Mode::Shared)))
        .collect()
}

/// The room that unfinished commands take, with their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// The number of commands.
    pub(crate) commands: usize,
    /// Bytes of their texts, counted twice: the task of a part repeats the part's texts.
    pub(crate) text_bytes: usize,
}

impl Usage {
    /// The room of one command, from its acceptance to its end.
    pub(crate) fn of(command: &Command) -> Self {
        Self {
            commands: 1,
            text_bytes: 2 * command.parameters.text_bytes(),
        }
    }

    /// The sum of both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            text_bytes: self.text_bytes + other.text_bytes,
        }
    }

    const fn without(self, other: Self) -> Self {
        Self {
            commands: self.commands - other.commands,
            text_bytes: self.text_bytes - other.text_bytes,
        }
    }
}

impl State {
    /// The room that unfinished commands take: all commands, and those of one user.
    pub(crate) fn usage(&self, user: &str) -> (Usage, Usage) {
        let of_user = self.users.get(user).copied().unwrap_or_default();
        (self.usage, of_user)
    }

    pub(super) fn count(&mut self, command: &Command) {
        let more = Usage::of(command);
        self.usage = self.usage.and(more);
        match self.users.get_mut(&command.user) {
            Some(usage) => *usage = usage.and(more),
            None => drop(self.users.insert(command.user.clone(), more)),
        }
    }

    fn discount(&mut self, command: &Command) {
        let less = Usage::of(command);
        self.usage = self.usage.without(less);
        if let Some(usage) = self.users.get_mut(&command.user) {
            *usage = usage.without(less);
            if usage.commands == 0 {
                self.users.remove(&command.user);
            }
        }
    }

    /// The number of recorded foreign tasks of a host that are not cleared.
    pub(crate) fn foreign_on(&self, host_id: HostId) -> usize {
        self.work.get(&host_id).map_or(0, |work| work.foreign.len())
    }

    pub(super) fn work_of(&mut self, host_id: HostId) -> &mut HostWork {
        self.work.entry(host_id).or_default()
    }

    /// Lets a tree leave the state once its root has ended and no task is left to clear. The same goes for a tree
    /// whose root was never recorded: an acceptance of which only a part was recorded.
    pub(crate) fn retire(&mut self, root: CommandId) {
        let Some(tree) = self.trees.get(&root) else { return };
        match self.command(root) {
            Some(command) if !command.state.is_terminal() || tree.uncleared > 0 => return,
            Some(_) => {
                for id in self.tree_of(root) {
                    self.drop_command(id);
                }
            }
            None => {
                let parts: Vec<CommandId> = self
                    .commands
                    .values()
                    .filter(|c| c.root == root)
                    .map(|c| c.id)
                    .collect();
                for id in parts {
                    self.drop_command(id);
                }
                let strays: Vec<TaskId> = self
                    .tasks
                    .values()
                    .filter(|t| t.root == Some(root))
                    .map(|t| t.id)
                    .collect();
                for id in strays {
                    self.drop_task(id);
                }
            }
        }
        self.trees.remove(&root);
    }

    fn drop_command(&mut self, id: CommandId) {
        self.families.remove(&id);
        let Some(command) = self.commands.remove(&id) else {
            return;
        };
        self.discount(&command);
        if let Some(host_id) = command.parameters.called_host() {
            self.work_of(host_id).calls.remove(&id);
        }
        for task_id in &command.tasks {
            self.drop_task(*task_id);
        }
    }

    fn drop_task(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.remove(&id) {
            self.work_of(task.host_id).tasks.remove(&id);
        }
    }
}

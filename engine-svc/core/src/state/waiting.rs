//! Commands that wait for their locks: the queue, and who blocks each of them.

use std::collections::BTreeSet;

use common::id::CommandId;
use common::lock::Mode;

use super::{Owner, State};
use crate::change::Change;
use crate::model::{Blocker, Blockers, Command, CommandState, EntityKey, Purpose};

impl State {
    /// The number of commands that wait for their locks.
    pub fn waiting_commands(&self) -> usize {
        self.locks.waiting()
    }

    /// The waiting commands, in the order of their acceptance.
    pub(crate) fn waiting(&self) -> Vec<CommandId> {
        self.locks.waiters().into_iter().filter_map(command).collect()
    }

    /// The waiting commands that need one of `keys`.
    pub(crate) fn waiting_for<'a>(&self, keys: impl IntoIterator<Item = &'a EntityKey>) -> Vec<CommandId> {
        let waiting = self.locks.waiting_for(keys).into_iter();
        waiting.filter_map(command).collect()
    }

    pub(crate) fn is_waiting(&self, owner: Owner) -> bool {
        self.locks.is_waiting(&owner)
    }

    /// Whether somebody still blocks a waiting command.
    pub(crate) fn is_blocked(&self, id: CommandId) -> bool {
        self.locks.waits_for(&Owner::Command(id)).is_some()
    }

    /// Everybody who blocks a command that waits, or is about to wait.
    pub(crate) fn blockers(&self, id: CommandId, wants: &[(EntityKey, Mode)]) -> Blockers {
        let obstacles = self.locks.obstacles(&Owner::Command(id), wants);
        let told = obstacles.iter().take(Blockers::TOLD);
        let by: Vec<Blocker> = told
            .filter_map(|found| {
                Some(Blocker {
                    entity: found.key.clone(),
                    holder: self.describe(found.owner)?,
                    mode: found.mode,
                    waits: found.waits,
                })
            })
            .collect();
        Blockers {
            more: obstacles.len().saturating_sub(Blockers::TOLD),
            by,
        }
    }

    /// Every entity that a command waits for.
    pub(crate) fn all_waited_for(&self) -> BTreeSet<EntityKey> {
        let waiting = self.waiting().into_iter().filter_map(|id| self.command(id));
        waiting.flat_map(keys).collect()
    }
}

/// The entities that these changes may have freed: whoever held or awaited them does so no longer.
pub(crate) fn freed_by(changes: &[Change]) -> BTreeSet<EntityKey> {
    let mut freed = BTreeSet::new();
    for change in changes {
        match change {
            Change::Command(command) if command.is_root() => {
                if command.state.is_terminal() || command.state == CommandState::Pending {
                    freed.extend(keys(command));
                }
            }
            Change::Task(task) if task.purpose == Purpose::Foreign && !task.is_open() => {
                freed.extend(task.entities());
            }
            Change::Command(_)
            | Change::Task(_)
            | Change::CommandRemoved(_)
            | Change::Host(_)
            | Change::HostRemoved(_)
            | Change::Domain(_)
            | Change::Disk(_)
            | Change::DiskRemoved(_)
            | Change::Vm(_)
            | Change::VmRemoved(_)
            | Change::Event(_) => {}
        }
    }
    freed
}

fn keys(command: &Command) -> impl Iterator<Item = EntityKey> {
    command.locks.iter().map(|(key, _)| key.clone())
}

/// The command of an owner. A foreign task holds its entities from the first, so it never waits.
fn command(owner: Owner) -> Option<CommandId> {
    match owner {
        Owner::Command(id) => Some(id),
        Owner::Foreign(_) => None,
    }
}

//! A command with everything that belongs to it, read from the store.

use std::collections::BTreeSet;

use common::id::{CommandId, TaskId};
use proto::engine::v1::Command;
use proto::store::v1::{AsyncTaskRecord, CommandRecord};
use store::{Reader, StoreError};

use super::command::COMMANDS;
use super::task::TASKS;

/// A command tree. Each record comes with its sequence; the root is first, parents before their children.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) commands: Vec<(u64, CommandRecord)>,
    pub(crate) tasks: Vec<(u64, AsyncTaskRecord)>,
}

impl Tree {
    /// The tree below `root`; empty if there is no such command. A part whose record is damaged or missing is logged
    /// and left out.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub(crate) fn read(reader: &dyn Reader, root: CommandId) -> Result<Self, StoreError> {
        let mut tree = Self::default();
        // A damaged list of children must not lead in circles.
        let mut seen = BTreeSet::new();
        let mut next = vec![root];
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some((seq, record)) = whole(COMMANDS.find(reader, id.as_bytes()))? {
                let (children, tasks) = parts(record.command.as_ref());
                tree.commands.push((seq, record));
                // The last entry of `next` is taken first.
                next.extend(children.into_iter().rev());
                for task_id in tasks {
                    tree.tasks.extend(whole(TASKS.find(reader, task_id.as_bytes()))?);
                }
            }
        }
        Ok(tree)
    }

    /// The root's record.
    pub(crate) fn root(&self) -> Option<&CommandRecord> {
        self.commands.first().map(|(_, record)| record)
    }
}

fn parts(command: Option<&Command>) -> (Vec<CommandId>, Vec<TaskId>) {
    let Some(command) = command else {
        return (Vec::new(), Vec::new());
    };
    let children = command.child_command_ids.iter().filter_map(|id| id.parse().ok());
    let tasks = command.task_ids.iter().filter_map(|id| id.parse().ok());
    (children.collect(), tasks.collect())
}

/// Passes over a damaged record, which harms nothing else; a store that cannot be read is an error.
pub(super) fn whole<T>(found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(StoreError::Damaged(what)) => {
            tracing::error!(what, "a record cannot be read and is left out");
            Ok(None)
        }
        found => found,
    }
}

//! A command with one part: the command ends as its part does.

use common::Timestamp;

use super::at::At;
use super::made_disk;
use super::next::{End, Next, children_awaited};
use crate::change::Change;
use crate::model::{Command, CommandState};

/// `brings` makes the changes that the part's success brings.
pub(super) fn next(at: At<'_>, brings: impl FnOnce(&Command) -> Vec<Change>) -> Next {
    let Some(part) = at.children().next() else {
        return Next::Stay;
    };
    if !part.state.is_terminal() {
        return children_awaited(at);
    }
    if part.state == CommandState::Succeeded {
        return End::succeeded(brings(part));
    }
    Next::End(Box::new(End {
        state: part.state,
        fault: part.fault.clone(),
        left_behind: part.left_behind.clone(),
        inventory: Vec::new(),
    }))
}

/// For a command that makes one disk: the disk enters the inventory once the part has made it.
pub(super) fn makes_a_disk(at: At<'_>, now: Timestamp) -> Next {
    next(at, |part| {
        made_disk(part, now).map(Change::Disk).into_iter().collect()
    })
}

/// Whether the command's part undoes.
pub(super) fn undoing(at: At<'_>) -> bool {
    at.children()
        .next()
        .is_some_and(|part| part.state == CommandState::Compensating)
}

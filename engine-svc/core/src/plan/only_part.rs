//! A command with one part: it ends as that does.

use super::next::children_awaited;
use super::{End, Next};
use crate::change::Change;
use crate::model::{Command, CommandState};
use crate::state::State;

/// `brings` is what the part's success brings.
pub(super) fn next(state: &State, command: &Command, brings: impl FnOnce(&Command) -> Vec<Change>) -> Next {
    let Some(part) = part(state, command) else {
        return Next::Stay;
    };
    if !part.state.is_terminal() {
        return children_awaited(state, command);
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

/// Whether its part undoes.
pub(super) fn compensates(state: &State, command: &Command) -> bool {
    part(state, command).is_some_and(|part| part.state == CommandState::Compensating)
}

fn part<'a>(state: &'a State, command: &Command) -> Option<&'a Command> {
    state.command(*command.children.first()?)
}

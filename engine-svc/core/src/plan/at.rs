//! The view of a verb: a command, with the state.

use crate::model::Command;
use crate::state::State;

/// A command, together with the state in which the verb is asked about the command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) state: &'a State,
    pub(crate) command: &'a Command,
}

impl<'a> At<'a> {
    /// The command's children, in their order.
    pub(crate) fn children(self) -> impl Iterator<Item = &'a Command> {
        let state = self.state;
        self.command.children.iter().filter_map(|id| state.command(*id))
    }
}

//! Where a verb looks.

use crate::model::Command;
use crate::state::State;

/// A command, in the state in which it is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) state: &'a State,
    pub(crate) command: &'a Command,
}

impl<'a> At<'a> {
    /// Its children, in their order.
    pub(crate) fn children(self) -> impl Iterator<Item = &'a Command> {
        let state = self.state;
        self.command.children.iter().filter_map(|id| state.command(*id))
    }
}

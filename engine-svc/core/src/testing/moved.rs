//! Which moves of the tables have happened.

use std::collections::BTreeMap;

use crate::model::{AsyncTaskEvent, AsyncTaskState, CommandEvent, CommandState};
use crate::step::Moves;

/// How often each move has happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved {
    commands: BTreeMap<(CommandState, CommandEvent), u64>,
    tasks: BTreeMap<(AsyncTaskState, AsyncTaskEvent), u64>,
}

impl Moved {
    pub(crate) fn add(&mut self, moves: &Moves) {
        for made in &moves.commands {
            *self.commands.entry(*made).or_default() += 1;
        }
        for made in &moves.tasks {
            *self.tasks.entry(*made).or_default() += 1;
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (made, count) in &other.commands {
            *self.commands.entry(*made).or_default() += count;
        }
        for (made, count) in &other.tasks {
            *self.tasks.entry(*made).or_default() += count;
        }
    }

    /// The legal moves that have not happened, in words.
    pub(crate) fn missing(&self) -> Vec<String> {
        let commands = CommandState::ALL
            .into_iter()
            .flat_map(|state| CommandEvent::ALL.map(|event| (state, event)));
        let tasks = AsyncTaskState::ALL
            .into_iter()
            .flat_map(|state| AsyncTaskEvent::ALL.map(|event| (state, event)));
        let commands =
            commands.filter(|made| made.0.next(made.1).is_ok() && !self.commands.contains_key(made));
        let tasks = tasks.filter(|made| made.0.next(made.1).is_ok() && !self.tasks.contains_key(made));
        let commands = commands.map(|(state, event)| format!("a command that is {state:?}: {event:?}"));
        commands
            .chain(tasks.map(|(state, event)| format!("a task that is {state:?}: {event:?}")))
            .collect()
    }
}

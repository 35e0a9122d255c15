//! One input at a time: which changes it makes, which effects follow, what the asker is told.

use common::id::CommandId;
use common::{Fault, Timestamp};

use crate::change::Change;
use crate::effect::Effect;
use crate::input::Input;
use crate::model::{AsyncTask, Command};
use crate::state::State;

/// The outcome of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// In order; see [`Change`] for what the order promises.
    pub changes: Vec<Change>,
    /// To be performed in order, once all of `changes` are durable.
    pub effects: Vec<Effect>,
    /// For the one who sent the input.
    pub reply: Reply,
}

/// What the one who sent an input is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// For inputs that nobody waits for.
    Done,
    /// The command is recorded; for verbs about a command, the wish is.
    Accepted {
        /// Its id.
        command_id: CommandId,
        /// As it now is; none where it has left the live picture, and the store has it.
        command: Option<Box<Command>>,
        /// The same request was accepted before.
        repeat: bool,
    },
    /// For `validate_only`: what would be done. Nothing is.
    Planned {
        /// The root.
        command: Box<Command>,
        /// Its descendants.
        children: Vec<Command>,
        /// The tasks of all of them.
        tasks: Vec<AsyncTask>,
    },
    /// Nothing was done, and nothing is recorded.
    Refused(Fault),
}

impl State {
    /// Takes one input.
    pub fn step(&mut self, _input: Input, _now: Timestamp) -> Transition {
        Transition {
            changes: Vec::new(),
            effects: Vec::new(),
            reply: Reply::Done,
        }
    }
}

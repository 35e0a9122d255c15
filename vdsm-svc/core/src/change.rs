//! What comes of an input.

use std::sync::Arc;

use common::fault::Fault;
use common::id::TaskId;

use crate::owner::Owner;
use crate::task::{Ordinal, Task};

/// A fact to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A task after one edge, or with something else new to show. Watchers see each of these.
    Task(Arc<Task>),
    /// A task with a new note: recorded, and shown to nobody.
    Noted(Arc<Task>),
    /// Whose host it is.
    Owner(Owner),
    /// A cleared task is old enough to be forgotten.
    Forgotten {
        /// Its record's key.
        ordinal: Ordinal,
        /// Its id.
        id: TaskId,
    },
}

/// What is to be done once the changes are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run the operation.
    Run(Arc<Task>),
    /// Tell the running operation that it is to stop.
    SignalAbort(TaskId),
    /// After a restart: stop what is left of it, then finish or undo it.
    Recover(Arc<Task>),
    /// Have the streams end that are of engines whose host it is not, now that it is this one's.
    Fence(Owner),
}

/// What the one who sent the input is told.
pub type Reply = Result<Answer, Refusal>;

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The task as it is now.
    Task(Arc<Task>),
    /// No such task, and that is no failure.
    NoTask,
    /// Whose host it is now.
    Owner(Option<Owner>),
    /// Taken note of.
    Done,
}

/// A refusal. Nothing was begun, and but for whose host it is nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is told so.
    Fault(Fault),
    /// What the store was said to know is too old to decide by: read it again, and ask again.
    LookAgain,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The outcome of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Mostly one revision or none. What concerns very many tasks takes several.
    pub revisions: Vec<Vec<Change>>,
    /// In order, once all revisions are durable.
    pub effects: Vec<Effect>,
    /// For the one who sent the input.
    pub reply: Reply,
}

//! The results of an input.

use std::sync::Arc;

use common::fault::Fault;
use common::id::TaskId;

use crate::owner::Owner;
use crate::task::{Ordinal, Task};

/// A fact to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A task after a transition, or with another visible change. Watchers see each of these.
    Task(Arc<Task>),
    /// A task with a new note: recorded, but not shown.
    Noted(Arc<Task>),
    /// The owner of the host.
    Owner(Owner),
    /// A cleared task has expired and is forgotten.
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
    /// Tell the running operation to stop.
    SignalAbort(TaskId),
    /// After a restart: stop what is left of the task, then finish or undo it.
    Recover(Arc<Task>),
    /// End the streams of engines other than this owner.
    Fence(Owner),
}

/// The answer to the sender of the input.
pub type Reply = Result<Answer, Refusal>;

/// A positive answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The task as it is now.
    Task(Arc<Task>),
    /// The task does not exist, which is no failure.
    NoTask,
    /// The owner of the host now.
    Owner(Option<Owner>),
    /// Done; there is nothing to report.
    Done,
}

/// A refusal. Nothing was begun, and nothing but the owner of the host is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The caller gets this fault.
    Fault(Fault),
    /// What the input says about the store is too old to decide by: read it again, and send the input again.
    LookAgain,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The result of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Usually one revision or none; several if very many tasks are concerned.
    pub revisions: Vec<Vec<Change>>,
    /// Effects in order, to be performed once all revisions are durable.
    pub effects: Vec<Effect>,
    /// For the sender of the input.
    pub reply: Reply,
}

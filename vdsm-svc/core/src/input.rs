//! The inputs of a host.

use std::collections::BTreeSet;

use std::sync::Arc;
use std::time::Duration;

use common::fault::Fault;
use common::id::{EngineId, Incarnation, StoreId, TaskId};
use common::operation::Operation;
use common::revision::Revision;

use crate::lock::{CallId, Key};
use crate::task::{Ordinal, Task};

/// The caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// None if the caller is not an engine.
    pub engine: Option<EngineCall>,
}

/// What an engine says about itself in the metadata of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCall {
    /// The engine.
    pub engine_id: EngineId,
    /// Increases with each of its starts.
    pub epoch: u64,
    /// Identifies the start, even among copies of its data directory; none from engines of older builds.
    pub incarnation: Option<Incarnation>,
    /// The store of this host that the call is for; none if the engine does not know it yet.
    pub store_id: Option<StoreId>,
}

/// An engine claims the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The engine that claims it.
    pub call: EngineCall,
    /// The earlier start of the same engine that the caller says it descends from.
    pub predecessor: Option<Incarnation>,
    /// The caller's starts between that one and this, oldest first.
    pub since: Vec<Incarnation>,
    /// Set if a person has decided on a take-over, whoever has the host.
    pub take_over: Option<TakeOver>,
    /// Set while the start that has the host is connected: how long ago this caller, or a start that it descends
    /// from, first claimed the host during that connection.
    pub waited_for: Option<Duration>,
}

/// Who decided on a take-over, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The user who decided it.
    pub user: String,
    /// The reason that the user gave.
    pub reason: String,
    /// The correlation id of the request.
    pub correlation_id: String,
}

/// What the store has for a task id, and the revision that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The revision that was read.
    pub revision: Revision,
    /// The record, if it exists.
    pub task: Option<Arc<Task>>,
}

/// An operation to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The caller.
    pub caller: Caller,
    /// The id that the caller has chosen.
    pub task_id: TaskId,
    /// The operation.
    pub operation: Operation,
    /// The correlation id, kept with the task.
    pub correlation_id: String,
    /// What the store has for the id.
    pub known: Known,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The records are loaded: decides what becomes of the unfinished tasks.
    Recover {
        /// Tasks that a thread of this process is still running (after a failed commit).
        alive: BTreeSet<TaskId>,
    },
    /// StartTask.
    Start(Start),
    /// AbortTask.
    Abort {
        /// The caller.
        caller: Caller,
        /// The task.
        task_id: TaskId,
        /// The correlation id, kept with the record of an unknown id.
        correlation_id: String,
        /// What the store has for the id.
        known: Known,
    },
    /// ClearTask.
    Clear {
        /// The caller.
        caller: Caller,
        /// The task.
        task_id: TaskId,
        /// What the store has for the id.
        known: Known,
    },
    /// ClaimHost.
    Claim(Claim),
    /// ReleaseHost.
    Release(Caller),
    /// A call that changes storage directly, outside of any task, requests its locks.
    Hold {
        /// The caller.
        caller: Caller,
        /// Identifies the call.
        call: CallId,
        /// The keys that it touches, all of them exclusively.
        keys: Vec<Key>,
    },
    /// That call has ended.
    LetGo(CallId),
    /// A report of the thread that runs a task.
    Report {
        /// The task.
        task_id: TaskId,
        /// What happened.
        report: Report,
    },
    /// Expired records, as the store has them.
    Age {
        /// Terminal tasks that no engine started, to be cleared because of their age.
        clear: Vec<Known>,
        /// Cleared tasks that have expired.
        forget: Vec<(Ordinal, TaskId)>,
    },
}

/// A report about a running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A note that the operation needs for its undo. Answered once it is durable.
    Noted {
        /// Only the operation reads it.
        note: Vec<u8>,
        /// From here on it can only be completed.
        past_no_return: bool,
    },
    /// It is about to take effect. Refused with `ABORTED` if an abort was requested.
    CommitPoint,
    /// It took effect.
    Finished,
    /// It failed; what it began still exists.
    Failed(Fault),
    /// A process of it cannot be killed: nothing is undone until that ends.
    Stuck(Fault),
    /// No process of it is left.
    Stopped,
    /// It is undone.
    Undone,
    /// It can be neither finished nor undone.
    UndoFailed(Fault),
}

impl Input {
    /// Its kind, for logs and fail points.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Recover { .. } => "recover",
            Self::Start(_) => "start",
            Self::Abort { .. } => "abort",
            Self::Clear { .. } => "clear",
            Self::Claim(_) => "claim",
            Self::Release(_) => "release",
            Self::Hold { .. } => "hold",
            Self::LetGo(_) => "let_go",
            Self::Age { .. } => "age",
            Self::Report { report, .. } => report.label(),
        }
    }
}

impl Report {
    const fn label(&self) -> &'static str {
        match self {
            Self::Noted { .. } => "report.noted",
            Self::CommitPoint => "report.commit_point",
            Self::Finished => "report.finished",
            Self::Failed(_) => "report.failed",
            Self::Stuck(_) => "report.stuck",
            Self::Stopped => "report.stopped",
            Self::Undone => "report.undone",
            Self::UndoFailed(_) => "report.undo_failed",
        }
    }
}

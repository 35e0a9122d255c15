//! What can happen to a host.

use std::collections::BTreeSet;

use std::sync::Arc;
use std::time::Duration;

use common::fault::Fault;
use common::id::{EngineId, Incarnation, StoreId, TaskId};
use common::operation::Operation;
use common::revision::Revision;

use crate::lock::{CallId, Key};
use crate::task::{Ordinal, Task};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// None where it is no engine.
    pub engine: Option<EngineCall>,
}

/// What an engine says of itself in the metadata of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCall {
    /// Which engine.
    pub engine_id: EngineId,
    /// Rises with each start of it.
    pub epoch: u64,
    /// Which start of it, copies of its data directory told apart; none from engines of older builds.
    pub incarnation: Option<Incarnation>,
    /// Which of this host's stores it means; none where it has not met one yet.
    pub store_id: Option<StoreId>,
}

/// An engine takes the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who takes it.
    pub call: EngineCall,
    /// The earlier start of the same engine that the caller says it descends from.
    pub predecessor: Option<Incarnation>,
    /// The caller's starts between that one and this, oldest first.
    pub since: Vec<Incarnation>,
    /// Set where a person has decided that the host changes hands, whoever has it.
    pub take_over: Option<TakeOver>,
    /// Set while the start that has the host is connected to it: how long ago this caller, or one that it descends
    /// from, first asked for the host meanwhile.
    pub waited_for: Option<Duration>,
}

/// Who decided that a host changes hands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The person.
    pub user: String,
    /// The person's words.
    pub reason: String,
    /// Of the request.
    pub correlation_id: String,
}

/// What the store knew of a task id, and when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The revision that was read.
    pub revision: Revision,
    /// The record, if there was one.
    pub task: Option<Arc<Task>>,
}

/// An operation to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Who asks.
    pub caller: Caller,
    /// The id that the caller chose.
    pub task_id: TaskId,
    /// What to do.
    pub operation: Operation,
    /// Kept with the task.
    pub correlation_id: String,
    /// What the store knows of the id.
    pub known: Known,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A load is over: decides what becomes of the unfinished tasks.
    Recover {
        /// Those that a thread of this very process still works for (after a failed commit).
        alive: BTreeSet<TaskId>,
    },
    /// StartTask.
    Start(Start),
    /// AbortTask.
    Abort {
        /// Who asks.
        caller: Caller,
        /// Which task.
        task_id: TaskId,
        /// Kept with the record that an unknown id gets.
        correlation_id: String,
        /// What the store knows of the id.
        known: Known,
    },
    /// ClearTask.
    Clear {
        /// Who asks.
        caller: Caller,
        /// Which task.
        task_id: TaskId,
        /// What the store knows of the id.
        known: Known,
    },
    /// ClaimHost.
    Claim(Claim),
    /// ReleaseHost.
    Release(Caller),
    /// A call that changes storage at once, outside any task, asks for what it will touch.
    Hold {
        /// Who asks.
        caller: Caller,
        /// Names the call.
        call: CallId,
        /// What it touches; all of it exclusively.
        keys: Vec<Key>,
    },
    /// That call is over.
    LetGo(CallId),
    /// The thread that works for a task has news.
    Report {
        /// Which task.
        task_id: TaskId,
        /// What happened.
        report: Report,
    },
    /// Old records, as the store has them.
    Age {
        /// Terminal tasks of no engine, to be cleared for their age.
        clear: Vec<Known>,
        /// Cleared tasks, kept long enough.
        forget: Vec<(Ordinal, TaskId)>,
    },
}

/// News of a running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Its operation noted what its undoing needs. Answered once it is durable.
    Noted {
        /// For the operation only.
        note: Vec<u8>,
        /// From here it goes forward only.
        past_no_return: bool,
    },
    /// It is about to take effect. Refused with `ABORTED` if someone has asked that it be stopped.
    CommitPoint,
    /// It took effect.
    Finished,
    /// It did not; what it began is still there.
    Failed(Fault),
    /// A process of it cannot be killed: nothing is undone under it.
    Stuck(Fault),
    /// No process of it is left.
    Stopped,
    /// What it began is undone.
    Undone,
    /// What it began can be neither finished nor undone.
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

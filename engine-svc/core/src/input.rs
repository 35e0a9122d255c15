//! The inputs of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::age::Present;
use common::id::{
    CommandId, DiskId, DomainId, EngineId, HostId, ImageId, Incarnation, RequestId, StoreId, TaskId,
};
use common::{Fault, Label, Operation, Start, Timestamp, Token, Words};

use crate::model::{CommandRequest, HostCall, Presence, ReportedState};

/// An input. Each may come twice, late, or after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The first input after each load: decides what a restart must decide, and which hosts to follow.
    Recover,
    /// A user requests a command.
    Submit(Box<Submission>),
    /// Time has passed: commands that have waited for their locks longer than allowed end. Comes every second while
    /// any command waits.
    LockWaitsChecked {
        /// The present, from which waiting times are computed.
        present: Present,
        /// For how long the process has run, by a clock that nobody can set: whatever the wall clock does, no command waits
        /// longer than it may in one process.
        running: Duration,
    },
    /// A user cancels a command.
    Cancel {
        /// The command.
        command_id: CommandId,
        /// The user.
        user: String,
    },
    /// A user retries a command that needs attention.
    Retry {
        /// The command.
        command_id: CommandId,
        /// The user.
        user: String,
    },
    /// A user abandons a command that needs attention.
    Abandon {
        /// The command.
        command_id: CommandId,
        /// The user.
        user: String,
        /// The reason, for the records.
        reason: String,
    },
    /// Commands have expired and are forgotten, with their requests and tasks. A command that has not ended, or has
    /// tasks that are not cleared, is kept.
    Forget {
        /// The roots of their trees.
        command_ids: Vec<CommandId>,
    },
    /// A host that is followed answers on a new connection.
    HostConnected {
        /// The host that the engine called.
        host_id: HostId,
        /// What the host says about itself.
        facts: HostFacts,
    },
    /// A host does not answer any more.
    HostAway {
        /// The host.
        host_id: HostId,
    },
    /// A host answers, but another start of this engine is connected to it: it has not decided yet whose it is.
    HostPutsOff {
        /// The host that the engine called.
        host_id: HostId,
        /// `ENGINE_STILL_CONNECTED`.
        fault: Fault,
    },
    /// A host that is followed could not be connected within the maximum number of attempts. They count as attempts
    /// of the calls by which commands undo something on that host, which would otherwise never be decided.
    ConnectionsSpent {
        /// Which.
        host_id: HostId,
        /// The last failure.
        fault: Fault,
    },
    /// A host answers, but it is not the one that is followed, or it belongs to another engine or to another life of
    /// this one.
    HostRefused {
        /// The host that the engine called.
        host_id: HostId,
        /// `HOST_ID_MISMATCH`, `HOST_OWNED`, `ENGINE_FENCED`, …
        fault: Fault,
        /// The host shows an incarnation that only a copy of this engine's data directory can have created, which
        /// proves what it says.
        is_proven: bool,
    },
    /// Which other lives of this engine are at work, as they say at a host that they and this start reach: instead of what
    /// was heard there before. Each has proved that it is one, and that it is at work now.
    LivesMet {
        /// Where they are heard.
        host_id: HostId,
        /// None of them where nobody is heard any more.
        lives: Vec<OtherStart>,
    },
    /// The process has not run for so long that its hosts may have given it up: what they said before counts for nothing.
    StoodStill,
    /// A frame of a host's task stream, in order, on the connection of [`Input::HostConnected`]. A frame of another
    /// store or start, or one that comes while the host is not connected, is ignored.
    Observed {
        /// The host.
        host_id: HostId,
        /// The store that the stream is of.
        store_id: StoreId,
        /// The start of the host at the connection that the stream is on.
        start: Start,
        /// The frame.
        frame: Frame,
    },
    /// A host has accepted a task, now or before.
    StartAccepted {
        /// The task.
        task_id: TaskId,
        /// The store that accepted it.
        store_id: StoreId,
        /// The start of the host that accepted it, as the connection knows it.
        start: Start,
        /// The host's record if the task is over. If it was cleared before, the stream will not show it again.
        over: Option<Box<HostTask>>,
    },
    /// A host will never run a task: a final answer.
    StartRefused {
        /// The task.
        task_id: TaskId,
        /// The reason.
        fault: Fault,
    },
    /// A host has recorded the abort of a task.
    AbortAccepted {
        /// The task.
        task_id: TaskId,
        /// The store that recorded it.
        store_id: StoreId,
        /// The start of the host that recorded it, as the connection knows it.
        start: Start,
        /// As in [`Input::StartAccepted`].
        over: Option<Box<HostTask>>,
    },
    /// A task is past its point of no return and continues.
    AbortRefused {
        /// The task.
        task_id: TaskId,
        /// The host's fault.
        fault: Fault,
    },
    /// A host has acknowledged a clear.
    Cleared {
        /// The task.
        task_id: TaskId,
        /// The sequence of the task's removal; none if the host does not know the task.
        sequence: Option<u64>,
    },
    /// A clear failed; the shell retries it.
    ClearFailed {
        /// The task.
        task_id: TaskId,
        /// The reason.
        fault: Fault,
    },
    /// A host's final answer to a call.
    CallAnswered {
        /// The command.
        command_id: CommandId,
        /// The call.
        call: HostCall,
        /// Done, or the reason why not. Only final answers: a broken connection decides nothing.
        result: Result<(), Fault>,
    },
    /// What storage shows of a task whose host lost its records, or may have.
    Probed {
        /// The task.
        task_id: TaskId,
        /// The host's store at that time.
        store_id: StoreId,
        /// The host's start at that time.
        start: Start,
        /// What storage showed.
        evidence: Evidence,
        /// Orphans still run there: then nothing that storage showed is final.
        is_busy: bool,
        /// The host's record of the task before it checked.
        remembered: Remembered,
    },
    /// The maximum number of attempts was made on a connected host, without a final answer.
    RetriesSpent {
        /// The host.
        host_id: HostId,
        /// What was attempted.
        what: Attempt,
        /// The last failure.
        fault: Fault,
    },
    /// What storage shows of a disk.
    DiskObserved {
        /// The disk.
        disk_id: DiskId,
        /// What storage showed.
        presence: Presence,
        /// A note for people.
        note: Words,
    },
    /// Everything that is on a host's storage, as [`crate::Effect::TakeInventory`] found it.
    InventoryTaken {
        /// The host.
        host_id: HostId,
        /// What was found.
        inventory: Inventory,
        /// The differences that the previous listing found; none for the first listing.
        before: Option<Arc<Differences>>,
    },
}

/// The images on a host's storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// By storage domain; none if the domain could not be read completely, which proves the absence of no image.
    pub images: BTreeMap<DomainId, Option<BTreeSet<ImageId>>>,
}

/// The differences between a host's storage and the engine's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Storage domains without a record.
    pub domains: BTreeSet<DomainId>,
    /// Images in recorded domains that belong to no disk.
    pub images: BTreeSet<(DomainId, ImageId)>,
    /// Disks whose image is missing.
    pub disks: BTreeSet<DiskId>,
    /// Recorded storage domains of the host that are missing, or could not be read completely.
    pub unread: BTreeSet<DomainId>,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.images.is_empty() && self.disks.is_empty() && self.unread.is_empty()
    }

    /// The differences that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            domains: &self.domains & &other.domains,
            images: &self.images & &other.images,
            disks: &self.disks & &other.disks,
            unread: &self.unread & &other.unread,
        }
    }
}

/// The maximum time that a command may wait for its locks: after a day, whoever requested it has forgotten it.
pub const MAX_LOCK_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// How long a request waits for its locks; none if it does not wait.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is malformed (`given` is none) or greater than [`MAX_LOCK_WAIT`].
pub fn lock_wait(given: Option<Duration>) -> Result<Option<Duration>, Fault> {
    match given {
        Some(Duration::ZERO) => Ok(None),
        Some(wait) if wait <= MAX_LOCK_WAIT => Ok(Some(wait)),
        Some(_) | None => Err(Fault::invalid("lock_wait", "must be from 0 s to 86400 s (24 h)")),
    }
}

/// A request for a command, with who sent it and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// A new id, from the shell.
    pub command_id: CommandId,
    /// The user.
    pub user: String,
    /// The RPC, part of the scope of `request_id`.
    pub rpc: String,
    /// From the caller, or generated by the shell.
    pub request_id: RequestId,
    /// Of the decoded request without its id: distinguishes a repeat from another request.
    pub digest: Vec<u8>,
    /// From the caller, or generated by the shell.
    pub correlation_id: String,
    /// The request.
    pub request: CommandRequest,
    /// How long to wait for locks that others hold; none: it is refused in that case.
    pub lock_wait: Option<Duration>,
    /// Only return what would be done.
    pub validate_only: bool,
    /// The earlier request in the store, if its command has left the working state.
    pub before: Option<PriorRequest>,
}

/// A request that was accepted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorRequest {
    /// The command that it became.
    pub command_id: CommandId,
    /// Distinguishes the same body from another one.
    pub digest: Vec<u8>,
}

/// What a host says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Of its data directory.
    pub store_id: StoreId,
    /// Its owner; none if there is none.
    pub engine_id: Option<EngineId>,
    /// Of its service.
    pub start: Start,
    /// The point that it was asked about: up to where the caller has followed it.
    pub followed: Option<Token>,
    /// Why that point is not in its history, for people: its records are older than those that were followed. Empty
    /// if it is, or if no point was given.
    pub forgotten: Words,
    /// Orphans: tasks of an earlier store whose processes still run in the storage root.
    pub orphan_task_ids: Vec<TaskId>,
    /// There are, or may be, more orphans: a task that is not listed may still run.
    pub more_orphans: bool,
}

/// A frame of a host's task stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The stream begins: the first frame of each stream. An unfinished snapshot is forgotten. Frames without this
    /// one before them are ignored.
    Opened,
    /// A page of a snapshot.
    Snapshot(Vec<HostTask>),
    /// The snapshot is complete: the host does not show any task that was not in it.
    SnapshotDone {
        /// The token of the snapshot.
        token: Token,
    },
    /// The changes of one revision of the host, or a part of them.
    Changes {
        /// None if more of the revision follows.
        token: Option<Token>,
        /// When the host committed them.
        time: Timestamp,
        /// In order.
        tasks: Vec<HostTask>,
    },
}

impl Frame {
    /// The tasks that it shows.
    pub fn tasks_mut(&mut self) -> &mut [HostTask] {
        match self {
            Self::Snapshot(tasks) | Self::Changes { tasks, .. } => tasks,
            Self::Opened | Self::SnapshotDone { .. } => &mut [],
        }
    }
}

/// What a host says about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTask {
    /// The task's id.
    pub id: TaskId,
    /// Its operation; none for a verb that this build does not know.
    pub operation: Option<Operation>,
    /// Its state.
    pub state: ReportedState,
    /// What stopped it.
    pub fault: Option<Fault>,
    /// Counts its changes from 1, without gaps.
    pub sequence: u64,
    /// Whether it can be aborted.
    pub cancelable: bool,
    /// What an abort would undo, for people.
    pub undo: Words,
    /// Why it could not be undone.
    pub undo_fault: Option<Fault>,
    /// What it waits for on its host, for people; may be empty.
    pub waiting_for: Words,
    /// The engine that started it; none if no engine did.
    pub engine_id: Option<EngineId>,
    /// Its last change: it was cleared or has expired.
    pub removed: bool,
    /// The correlation id of whoever started it.
    pub correlation_id: Label,
    /// It is held: its host begins it only when it is sent again.
    pub is_held: bool,
    /// The engine has a final record of it that is no longer in the state.
    pub is_settled: bool,
}

/// What storage shows of a task's operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Everything is as it was before the task.
    NotBegun,
    /// Only the empty directory of the image exists: the task uses it when it begins again.
    EmptyImage,
    /// It is incomplete; described for people.
    Begun(Words),
    /// The operation is complete.
    Done,
    /// It cannot be determined; with the reason for people.
    Unclear(Words),
}

/// A host's record of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// It has none.
    Unknown,
    /// The task has not ended.
    Open,
    /// The task has ended.
    Over,
}

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// To start, abort or probe a task.
    Task(TaskId),
    /// The call of a command.
    Call(CommandId),
}

/// Another life of this engine, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherStart {
    /// Which start it is.
    pub incarnation: Incarnation,
    /// The hosts that it has, as it says.
    pub holds: BTreeSet<HostId>,
}

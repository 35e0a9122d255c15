//! What can happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::age::Present;
use common::id::{CommandId, DiskId, DomainId, EngineId, HostId, ImageId, RequestId, StoreId, TaskId};
use common::{Fault, Label, Operation, Start, Timestamp, Token, Words};

use crate::model::{CommandRequest, HostCall, Presence, ReportedState};

/// One input. Each may come twice, late, or after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The first after each load: decides what a restart must decide, and says whom to follow.
    Recover,
    /// A user wants something done.
    Submit(Box<Submission>),
    /// Time has passed: what waits for its locks for longer than its request allows ends. Comes every second while
    /// anything waits.
    LockWaitsChecked {
        /// To tell how long something waits from.
        present: Present,
    },
    /// A user wants a command stopped.
    Cancel {
        /// The command.
        command_id: CommandId,
        /// The user who asks for it.
        user: String,
    },
    /// A user wants tried again what made a command rest.
    Retry {
        /// The command.
        command_id: CommandId,
        /// The user who asks for it.
        user: String,
    },
    /// A user gives a resting command up.
    Abandon {
        /// The command.
        command_id: CommandId,
        /// The user who asks for it.
        user: String,
        /// Why, for the log.
        reason: String,
    },
    /// Commands that ended long ago are forgotten, with their requests and tasks. Any that has not ended, or
    /// whose tasks are not cleared, is kept.
    Forget {
        /// The roots of their trees.
        command_ids: Vec<CommandId>,
    },
    /// A host answers as the one that is followed, at a new connection.
    HostConnected {
        /// Whom the engine called.
        host_id: HostId,
        /// What it says of itself.
        facts: HostFacts,
    },
    /// A host does not answer any more.
    HostAway {
        /// The host.
        host_id: HostId,
    },
    /// A host answers, and another start of this engine is connected there: it does not say yet whose it is.
    HostPutsOff {
        /// Whom the engine called.
        host_id: HostId,
        /// `ENGINE_STILL_CONNECTED`.
        fault: Fault,
    },
    /// A host that is followed could not be connected as often as anything is tried. What a command undoes by a call to it
    /// would never be decided by anybody: these are tries of that call.
    ConnectionsSpent {
        /// Which.
        host_id: HostId,
        /// The last failure.
        fault: Fault,
    },
    /// A host answers, but not as the one that is followed, or it is another engine's or another life's of this one.
    HostRefused {
        /// Whom the engine called.
        host_id: HostId,
        /// `HOST_ID_MISMATCH`, `HOST_OWNED`, `ENGINE_FENCED`, …
        fault: Fault,
        /// The host shows an incarnation that only a copy of this engine's data directory can have made: more than its
        /// word.
        is_proven: bool,
    },
    /// A frame of a host's task stream, in order, on the connection that [`Input::HostConnected`] told of. One of
    /// another store, or one that comes while the host is not connected, is ignored.
    Observed {
        /// The host.
        host_id: HostId,
        /// The store that the stream is of.
        store_id: StoreId,
        /// What came.
        frame: Frame,
    },
    /// A host has accepted a task, now or before.
    StartAccepted {
        /// The task.
        task_id: TaskId,
        /// By the store that accepted it.
        store_id: StoreId,
        /// The host's record where it is one that was cleared before: the stream will not show it again.
        cleared: Option<Box<HostTask>>,
    },
    /// A host will never run a task: a verdict.
    StartRefused {
        /// The task.
        task_id: TaskId,
        /// The reason.
        fault: Fault,
    },
    /// A host has recorded the wish to stop a task.
    AbortAccepted {
        /// The task.
        task_id: TaskId,
        /// By the store that recorded it.
        store_id: StoreId,
        /// As in [`Input::StartAccepted`].
        cleared: Option<Box<HostTask>>,
    },
    /// A task is past its point of no return: it runs on.
    AbortRefused {
        /// The task.
        task_id: TaskId,
        /// What the host said.
        fault: Fault,
    },
    /// A host has acknowledged a clear.
    Cleared {
        /// The task.
        task_id: TaskId,
        /// The sequence of the task's removal; none where the host knows no such task.
        sequence: Option<u64>,
    },
    /// A clear failed; the shell tries again.
    ClearFailed {
        /// The task.
        task_id: TaskId,
        /// The reason.
        fault: Fault,
    },
    /// A host's verdict on a call.
    CallAnswered {
        /// For which command.
        command_id: CommandId,
        /// On which call.
        call: HostCall,
        /// Done, or why not. Only verdicts: a cut says nothing.
        result: Result<(), Fault>,
    },
    /// What storage shows of a task whose host lost its memory, or may have.
    Probed {
        /// The task.
        task_id: TaskId,
        /// The host's store at the time.
        store_id: StoreId,
        /// The host's start at the time.
        start: Start,
        /// What was seen.
        evidence: Evidence,
        /// Processes that the host does not work for are still at work there: then nothing that was seen is final.
        is_busy: bool,
        /// What the host remembered of the task before it looked.
        remembered: Remembered,
    },
    /// Something was tried on a connected host as often as allowed, without a verdict.
    RetriesSpent {
        /// The host.
        host_id: HostId,
        /// What was tried.
        what: Attempt,
        /// The last failure.
        fault: Fault,
    },
    /// What storage shows of a disk.
    DiskObserved {
        /// The disk.
        disk_id: DiskId,
        /// What was seen.
        presence: Presence,
        /// In words.
        note: Words,
    },
    /// All that a host's storage holds, as [`crate::Effect::TakeInventory`] found it.
    InventoryTaken {
        /// The host.
        host_id: HostId,
        /// What was found.
        inventory: Inventory,
        /// What the look before this one found; none for the first one.
        before: Option<Arc<Differences>>,
    },
}

/// The images that a host's storage holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// By storage domain; none where they could not be read whole, which proves of no image that it is not there.
    pub images: BTreeMap<DomainId, Option<BTreeSet<ImageId>>>,
}

/// In what the storage of a host and the engine's records differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Storage domains that are not recorded.
    pub domains: BTreeSet<DomainId>,
    /// Images, in domains that are recorded, that are no disk's.
    pub images: BTreeSet<(DomainId, ImageId)>,
    /// Disks whose image is not there.
    pub disks: BTreeSet<DiskId>,
    /// Recorded storage domains of the host that are not there, or could not be read whole.
    pub unread: BTreeSet<DomainId>,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.images.is_empty() && self.disks.is_empty() && self.unread.is_empty()
    }

    /// What is in both.
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

/// The longest time for which a command may wait for its locks: whoever waits for longer than a day is forgotten by
/// whoever asked.
pub const MAX_LOCK_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// What a request says of how long to wait for its locks; none for one that does not wait.
///
/// # Errors
/// `INVALID_ARGUMENT` where it is negative, or over [`MAX_LOCK_WAIT`].
pub fn lock_wait(seconds: i64, nanos: i32) -> Result<Option<Duration>, Fault> {
    let wait = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    let wait = wait.map(|(seconds, nanos)| {
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
    });
    match wait {
        Some(Duration::ZERO) => Ok(None),
        Some(wait) if wait <= MAX_LOCK_WAIT => Ok(Some(wait)),
        Some(_) | None => Err(Fault::invalid("lock_wait", "must be from 0 s to 86400 s (24 h)")),
    }
}

/// A request for something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Fresh, from the shell.
    pub command_id: CommandId,
    /// Who asks.
    pub user: String,
    /// The RPC, part of the scope of `request_id`.
    pub rpc: String,
    /// The caller's, or made by the shell.
    pub request_id: RequestId,
    /// Of the decoded request without its id: tells a repeat from another request.
    pub digest: Vec<u8>,
    /// The caller's, or made by the shell.
    pub correlation_id: String,
    /// What is wanted.
    pub request: CommandRequest,
    /// For how long to wait for the locks where somebody has them; none: it is refused then.
    pub lock_wait: Option<Duration>,
    /// Only say what would be done.
    pub validate_only: bool,
    /// What the store has of the same request, for one whose command has left the working state.
    pub before: Option<PriorRequest>,
}

/// A request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorRequest {
    /// As which command.
    pub command_id: CommandId,
    /// Tells the same body from another.
    pub digest: Vec<u8>,
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Of its data directory.
    pub store_id: StoreId,
    /// Whose it is; none if nobody's.
    pub engine_id: Option<EngineId>,
    /// Of its service.
    pub start: Start,
    /// The point that it was asked about: up to where it was followed, as far as the asker knew.
    pub followed: Option<Token>,
    /// Why that point is not in its history, in words: it has an older memory than the one that was followed. Empty
    /// where it is, or where none was asked about.
    pub forgotten: Words,
    /// Tasks of an earlier store whose processes still work in the storage root.
    pub orphan_task_ids: Vec<TaskId>,
    /// There are, or may be, more of them than those: a task that is not among them may still be at work.
    pub more_orphans: bool,
}

/// A frame of a host's task stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The stream begins: the first frame of each. What was seen of an unfinished snapshot is forgotten. Without
    /// it the frames after it are ignored.
    Opened,
    /// A page of a snapshot.
    Snapshot(Vec<HostTask>),
    /// The snapshot is complete: a task that was not in it is not shown by the host.
    SnapshotDone {
        /// Up to here.
        token: Token,
    },
    /// Changes of one revision of the host, or a piece of them.
    Changes {
        /// None while more of the revision follows.
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

/// What a host says of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTask {
    /// The task's id.
    pub id: TaskId,
    /// What it does; none for a verb that this build does not know.
    pub operation: Option<Operation>,
    /// Where it stands.
    pub state: ReportedState,
    /// What stopped it.
    pub fault: Option<Fault>,
    /// Counts its changes from 1, without holes.
    pub sequence: u64,
    /// Whether it would be stopped.
    pub cancelable: bool,
    /// What stopping it would undo.
    pub undo: Words,
    /// Why it could not be undone.
    pub undo_fault: Option<Fault>,
    /// What it waits for on its host, in words; may be empty.
    pub waiting_for: Words,
    /// Whose it is; none if no engine's.
    pub engine_id: Option<EngineId>,
    /// Its last change: it was cleared, or its age made it go.
    pub removed: bool,
    /// As the starter gave it.
    pub correlation_id: Label,
    /// Its host waits to be asked for it again before it begins it.
    pub is_held: bool,
    /// The engine has a record of it that is final, and nothing of which lives any more.
    pub is_settled: bool,
}

/// What storage shows of a task's operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// All is as it was before the task.
    NotBegun,
    /// There is the image's directory, and nothing in it: the task takes it over when it begins again.
    EmptyImage,
    /// Something of it is there, and it is not whole; in words.
    Begun(Words),
    /// The operation's effect is whole.
    Done,
    /// It cannot be told; in words.
    Unclear(Words),
}

/// What a host remembers of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing: it does not know it.
    Unknown,
    /// That it is not over.
    Open,
    /// That it is over.
    Over,
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// To start, abort or probe a task.
    Task(TaskId),
    /// The call of a command.
    Call(CommandId),
}

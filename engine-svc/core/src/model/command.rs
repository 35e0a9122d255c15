//! Commands: what a user asked for, and its parts.

use std::time::Duration;

use common::id::{CommandId, HostId, RequestId, TaskId};
use common::lock::Mode;
use common::{Fault, Timestamp, Words};

use super::{Blockers, CommandKind, EntityKey, Parameters};

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandState {
    /// Accepted; it waits for its locks.
    Pending,
    /// At work.
    Active,
    /// What it did is being undone.
    Compensating,
    /// Everything was done. An end.
    Succeeded,
    /// It was not done; `left_behind` says whether anything is left of it. An end.
    Failed,
    /// It was cancelled, and nothing was changed. An end.
    Cancelled,
    /// A rest, not an end: nothing that can still happen by itself would decide.
    NeedsAttention,
}

impl CommandState {
    /// Whether it is an end. Ends are final.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What an unfinished command or task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFor {
    /// The thing itself.
    pub what: Awaited,
    /// A note for people.
    pub note: Words,
    /// Since when.
    pub since: Timestamp,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// A host's answer.
    Host(HostId),
    /// A task that is not over.
    Task(TaskId),
    /// A child that has not ended.
    Command(CommandId),
    /// Its locks, which these have or get first.
    Locks(Blockers),
    /// A decision of an operator, because of this.
    Attention(Fault),
}

/// How a part of a command ended, or that it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which part.
    pub command: CommandId,
    /// Its kind.
    pub kind: CommandKind,
    /// What it was about.
    pub entity: EntityKey,
    /// Where it stood.
    pub state: CommandState,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

/// The request that a command was accepted for: a repeat of it is answered with the same command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The RPC, as the shell names it.
    pub rpc: String,
    /// The caller's id of the request.
    pub request_id: RequestId,
    /// Distinguishes the same body from another one.
    pub digest: Vec<u8>,
}

/// What a user asked for, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// The order of acceptance; the key of its record.
    pub seq: u64,
    /// What it does.
    pub parameters: Parameters,
    /// None for a root.
    pub parent: Option<CommandId>,
    /// The root of its tree; itself for a root.
    pub root: CommandId,
    /// The whole list, recorded before the first of them starts.
    pub children: Vec<CommandId>,
    /// Its own tasks, oldest first.
    pub tasks: Vec<TaskId>,
    /// Its state.
    pub state: CommandState,
    /// Its cancellation was requested. Kept whatever becomes of the request.
    pub cancel_requested: bool,
    /// Its host may have received its call. Recorded before the call is sent.
    pub call_sent: bool,
    /// What made it fail. Later faults never overwrite it.
    pub fault: Option<Fault>,
    /// One per child, in order; filled when the command ends. (Before that the children show it: rewriting the list
    /// at each child's end would make a thousand children cost a million writes.)
    pub outcomes: Vec<Outcome>,
    /// What was neither finished nor undone.
    pub left_behind: Vec<EntityKey>,
    /// None once it has ended. A command whose host is away waits for its task; only the shell knows that the host is
    /// away, and this is not durable.
    pub waiting_for: Option<WaitingFor>,
    /// The user who requested it.
    pub user: String,
    /// Set on a root.
    pub request: Option<RequestKey>,
    /// Correlates the work of both services.
    pub correlation_id: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Counts its changes from 1, without gaps.
    pub sequence: u64,
    /// 1 at first; increases with each retry that reaches it.
    pub attempt: u32,
    /// Who abandoned it.
    pub abandoned_by: Option<String>,
    /// How long it may wait for its locks, in running time; none if it does not wait. Set only for a root.
    pub lock_wait: Option<Duration>,
    /// The locks that it holds until it ends, or waits for while it is PENDING; only a root has any. Kept in the
    /// record after the end, but no longer held.
    pub locks: Vec<(EntityKey, Mode)>,
    /// The count of its tree's changes at its last change.
    pub tree_sequence: u64,
}

impl Command {
    /// Its kind.
    pub const fn kind(&self) -> CommandKind {
        self.parameters.kind()
    }

    /// Whether it is the root of its tree.
    pub const fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// Why it needs an operator, while it does.
    pub const fn attention(&self) -> Option<&Fault> {
        match (&self.state, &self.waiting_for) {
            (
                CommandState::NeedsAttention,
                Some(WaitingFor {
                    what: Awaited::Attention(fault),
                    ..
                }),
            ) => Some(fault),
            _ => None,
        }
    }
}

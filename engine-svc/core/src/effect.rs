//! What is to be done outside of the core, once the change behind it is durable.

use std::sync::Arc;

use common::Operation;
use common::id::{CommandId, DiskId, DomainId, HostId, StoreId, TaskId};

use crate::input::Differences;
use crate::model::HostCall;

/// An effect: a value that [`crate::State::step`] returns, never a call that it makes.
///
/// Effects for a host may be dropped while it is not connected, or lost in a crash: at each
/// [`crate::Input::HostConnected`] everything that is still to be done on that host is returned again. While the host
/// is connected, the shell repeats each effect until it has the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Connect to a host and follow it; does nothing if it is followed already.
    Follow {
        /// The id that the host must answer with.
        host_id: HostId,
        /// Its address, as `host:port`.
        address: String,
        /// How its certificate must name it; empty for `host:` and its id.
        identity: String,
    },
    /// Follow it no longer.
    Unfollow {
        /// The host.
        host_id: HostId,
    },
    /// Claims a recorded host again, because it lost its records and with them its owner. To be done before the
    /// effects that follow.
    Reclaim {
        /// The host.
        host_id: HostId,
    },
    /// Have a host run a task.
    StartTask {
        /// The host.
        host_id: HostId,
        /// The id of the task.
        task_id: TaskId,
        /// The operation.
        operation: Operation,
        /// The host's store that it is meant for.
        store_id: Option<StoreId>,
        /// The correlation id, for the host's records and logs.
        correlation_id: String,
    },
    /// Have a host abort a task, whether or not it ever received it.
    AbortTask {
        /// The host.
        host_id: HostId,
        /// The task.
        task_id: TaskId,
        /// The host's store that it is meant for.
        store_id: Option<StoreId>,
        /// The correlation id of the command; empty if it is no longer known.
        correlation_id: String,
    },
    /// Tell a host that the result of a task is recorded here.
    ClearTask {
        /// The host.
        host_id: HostId,
        /// The task.
        task_id: TaskId,
        /// The correlation id of the command; empty if it is no longer known.
        correlation_id: String,
    },
    /// Call a host for a command; repeated until there is a final answer.
    Call {
        /// The host.
        host_id: HostId,
        /// The command.
        command_id: CommandId,
        /// The call.
        call: HostCall,
        /// The command's.
        correlation_id: String,
    },
    /// Ask a host that lost its records, or may have, what storage shows of a task, what its record of the task is,
    /// and whether orphans still run there.
    ProbeTask {
        /// The host.
        host_id: HostId,
        /// The task.
        task_id: TaskId,
        /// The operation of the task.
        operation: Operation,
        /// The command's.
        correlation_id: String,
    },
    /// Ask what storage shows of a disk.
    ObserveDisk {
        /// The host.
        host_id: HostId,
        /// The disk.
        disk_id: DiskId,
        /// The domain of the disk.
        domain_id: DomainId,
    },
    /// List the host's storage: the engine's records may be older.
    TakeInventory {
        /// The host.
        host_id: HostId,
        /// The differences that a previous listing found: a difference counts only if both find it.
        before: Option<Arc<Differences>>,
    },
    /// The host's stream has a gap: open a new one that starts with a snapshot.
    Resync {
        /// The host.
        host_id: HostId,
    },
}

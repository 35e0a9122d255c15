//! What is to be done in the world, once the change behind it is durable.

use std::sync::Arc;

use common::Operation;
use common::id::{CommandId, DiskId, DomainId, HostId, StoreId, TaskId};

use crate::input::Differences;
use crate::model::HostCall;

/// Something to do. Values that [`crate::State::step`] returns, never calls that it makes.
///
/// Those for a host may be dropped while it is not connected, and lost in a crash: at each
/// [`crate::Input::HostConnected`] all that is still to be done on that host comes again. While it is connected,
/// the shell repeats each until it has the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Connect to a host and follow it; harmless where it is followed already.
    Follow {
        /// The host that must answer there.
        host_id: HostId,
        /// Its address, as `host:port`.
        address: String,
    },
    /// Follow it no longer.
    Unfollow {
        /// The host.
        host_id: HostId,
    },
    /// Takes the recorded host once more: it lost its memory, and with it whose it is. To be done before the
    /// effects that come after it.
    Reclaim {
        /// The host.
        host_id: HostId,
    },
    /// Have a host run a task.
    StartTask {
        /// The host.
        host_id: HostId,
        /// Under which id.
        task_id: TaskId,
        /// The operation.
        operation: Operation,
        /// The host's store that it is meant for.
        store_id: Option<StoreId>,
        /// For the host's records and logs.
        correlation_id: String,
    },
    /// Have a host stop a task, whether or not it ever heard of it.
    AbortTask {
        /// The host.
        host_id: HostId,
        /// The task.
        task_id: TaskId,
        /// The host's store that it is meant for.
        store_id: Option<StoreId>,
        /// The command's; empty where nobody knows any more.
        correlation_id: String,
    },
    /// Tell a host that the outcome of a task is safe here.
    ClearTask {
        /// The host.
        host_id: HostId,
        /// The task.
        task_id: TaskId,
        /// The command's; empty where nobody knows any more.
        correlation_id: String,
    },
    /// Call a host for a command; repeated until there is a verdict.
    Call {
        /// The host.
        host_id: HostId,
        /// For which command.
        command_id: CommandId,
        /// The call.
        call: HostCall,
        /// The command's.
        correlation_id: String,
    },
    /// Look on storage what a task did whose host lost its memory, or may have, what that host remembers of it, and
    /// whether anything that it does not work for is still at work there.
    ProbeTask {
        /// The host.
        host_id: HostId,
        /// The task.
        task_id: TaskId,
        /// What it was to do.
        operation: Operation,
        /// The command's.
        correlation_id: String,
    },
    /// Look on storage what there is of a disk.
    ObserveDisk {
        /// The host.
        host_id: HostId,
        /// The disk.
        disk_id: DiskId,
        /// In which domain.
        domain_id: DomainId,
    },
    /// Look through the host's storage: the records here may be older than it is.
    TakeInventory {
        /// The host.
        host_id: HostId,
        /// What a look before this one found: what both find is so.
        before: Option<Arc<Differences>>,
    },
    /// The host's stream has a hole: open a new one that starts with a snapshot.
    Resync {
        /// The host.
        host_id: HostId,
    },
}

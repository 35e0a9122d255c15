//! Durable changes: complete records; the last one with a key wins.

use std::sync::Arc;

use common::id::{CommandId, DiskId, HostId, VmId};

use crate::model::{AsyncTask, Command, Disk, Domain, Event, Host, Vm};

/// A record in its new state. [`crate::State::apply`] applies it to the state, live and at load.
///
/// The order of the changes of a transition matters if they do not fit into one revision of the store: a restart must
/// be able to continue from every prefix of them. So children and tasks come before the root that makes them valid,
/// and the results of a command come before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A command was accepted or changed.
    Command(Arc<Command>),
    /// A command has expired.
    CommandRemoved(CommandId),
    /// A task was recorded or changed.
    Task(Arc<AsyncTask>),
    /// A host was added or changed, or was followed further.
    Host(Arc<Host>),
    /// A host was released.
    HostRemoved(HostId),
    /// A storage domain was added or changed.
    Domain(Domain),
    /// A disk was added or changed.
    Disk(Disk),
    /// A disk is gone.
    DiskRemoved(DiskId),
    /// A VM was added or changed.
    Vm(Vm),
    /// A VM is gone.
    VmRemoved(VmId),
    /// An event for people.
    Event(Event),
}

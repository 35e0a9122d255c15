//! Durable facts: whole records, the last one of a key wins.

use std::sync::Arc;

use common::id::{CommandId, DiskId, HostId, VmId};

use crate::model::{AsyncTask, Command, Disk, Domain, Event, Host, Vm};

/// One record as it now is. [`crate::State::apply`] takes it into the state, live and at load.
///
/// The order of the changes of a transition matters where they do not fit into one revision of the store:
/// every prefix of them is a state that a restart carries forward. So children and tasks come before the root
/// that makes them count, and what the end of a command brings comes before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A command was accepted or changed.
    Command(Arc<Command>),
    /// A command's age made it go.
    CommandRemoved(CommandId),
    /// A task was recorded or changed.
    Task(Arc<AsyncTask>),
    /// A host was added or changed, or was followed further.
    Host(Arc<Host>),
    /// A host was given up.
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
    /// Something happened that people are told.
    Event(Event),
}

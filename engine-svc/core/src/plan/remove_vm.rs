//! Removes a VM with its disks.

use common::id::VmId;

/// See [`crate::model::Parameters::RemoveVm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveVm {
    /// Which.
    pub vm_id: VmId,
    /// Its name when the command was accepted.
    pub name: String,
}

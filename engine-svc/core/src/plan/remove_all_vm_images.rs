//! Removes the disks of a VM, all at once.

use common::id::{DiskId, VmId};

/// See [`crate::model::Parameters::RemoveAllVmImages`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveAllVmImages {
    /// Whose.
    pub vm_id: VmId,
    /// As they were when the command was accepted.
    pub disk_ids: Vec<DiskId>,
}

//! Creates a VM with its disks, all at once.

use common::id::VmId;

use crate::model::DiskSpec;

/// See [`crate::model::Parameters::CreateVm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVm {
    /// Its id.
    pub vm_id: VmId,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its disks; may be none.
    pub disks: Vec<DiskSpec>,
}

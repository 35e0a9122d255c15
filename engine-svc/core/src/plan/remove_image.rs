//! Removes one disk.

use common::id::{DiskId, DomainId, HostId, VmId};

/// See [`crate::model::Parameters::RemoveImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveImage {
    /// The VM that it is attached to.
    pub vm_id: VmId,
    /// Which.
    pub disk_id: DiskId,
    /// Where it lies.
    pub domain_id: DomainId,
    /// The host that deletes it.
    pub host_id: HostId,
}

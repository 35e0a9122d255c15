//! What RemoveImage needs.

use common::id::{DiskId, DomainId, HostId, VmId};

use super::CommandParameters;
use crate::model::EntityKey;

/// Removes one disk: a child of a RemoveAllVmImages or a RemoveDisk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveImage {
    /// The VM that is removed with it; none for a disk of its own.
    pub vm_id: Option<VmId>,
    /// The disk.
    pub disk_id: DiskId,
    /// Its domain.
    pub domain_id: DomainId,
    /// The host that deletes it.
    pub host_id: HostId,
    /// Its capacity, in bytes; 0 in a record from before capacities were recorded.
    pub capacity_bytes: u64,
}

impl CommandParameters for RemoveImage {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk_id)
    }

    fn describe(&self) -> String {
        format!("Removing disk {}", self.disk_id)
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        0
    }

    fn bytes(&self) -> u64 {
        self.capacity_bytes
    }
}

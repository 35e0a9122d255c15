//! What CreateImage needs.

use common::id::{HostId, VmId, VolumeId};

use super::CommandParameters;
use crate::model::{DiskSpec, EntityKey};

/// Creates one disk: a child of a CreateVm or a CreateDisk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateImage {
    /// The VM that it is created for; none for a disk of its own.
    pub vm_id: Option<VmId>,
    /// The disk.
    pub disk: DiskSpec,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The host that creates it.
    pub host_id: HostId,
}

impl CommandParameters for CreateImage {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk.disk_id)
    }

    fn describe(&self) -> String {
        format!("Creating disk {}", self.disk.disk_id)
    }

    fn makes(&self) -> bool {
        true
    }

    fn text_bytes(&self) -> usize {
        self.disk.description.len()
    }

    fn bytes(&self) -> u64 {
        self.disk.capacity_bytes
    }
}

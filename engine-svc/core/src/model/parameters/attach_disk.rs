//! What AttachDisk needs.

use common::id::{DiskId, VmId};

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Attaches a disk to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachDisk {
    /// The disk.
    pub disk_id: DiskId,
    /// The VM.
    pub vm_id: VmId,
}

impl Requested for AttachDisk {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for AttachDisk {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk_id)
    }

    fn entities(&self) -> Vec<EntityKey> {
        vec![self.entity(), EntityKey::Vm(self.vm_id)]
    }

    fn describe(&self) -> String {
        format!("Attaching disk {} to VM {}", self.disk_id, self.vm_id)
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        0
    }
}

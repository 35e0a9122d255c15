//! What DetachDisk needs.

use common::id::{DiskId, VmId};

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Detaches a disk from its VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachDisk {
    /// The disk.
    pub disk_id: DiskId,
    /// The VM.
    pub vm_id: VmId,
}

impl Requested for DetachDisk {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for DetachDisk {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk_id)
    }

    fn entities(&self) -> Vec<EntityKey> {
        vec![self.entity(), EntityKey::Vm(self.vm_id)]
    }

    fn describe(&self) -> String {
        format!("Detaching disk {} from VM {}", self.disk_id, self.vm_id)
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        0
    }
}

//! What RemoveAllVmImages needs.

use common::id::{DiskId, VmId};

use super::CommandParameters;
use crate::model::EntityKey;

/// Removes the disks of a VM: the child of a RemoveVm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveAllVmImages {
    /// The VM whose disks they are.
    pub vm_id: VmId,
    /// As they were when the command was accepted.
    pub disk_ids: Vec<DiskId>,
}

impl CommandParameters for RemoveAllVmImages {
    fn entity(&self) -> EntityKey {
        EntityKey::Vm(self.vm_id)
    }

    fn describe(&self) -> String {
        format!("Removing the disks of VM {}", self.vm_id)
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        0
    }
}

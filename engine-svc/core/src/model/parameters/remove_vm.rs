//! What RemoveVm needs.

use common::id::VmId;

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Removes a VM with its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveVm {
    /// The VM.
    pub vm_id: VmId,
    /// Its name when the command was accepted.
    pub name: String,
}

/// A request to remove a VM with its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveVmRequest {
    /// The VM.
    pub vm_id: VmId,
}

impl Requested for RemoveVm {
    type Request = RemoveVmRequest;

    fn request(&self) -> RemoveVmRequest {
        RemoveVmRequest { vm_id: self.vm_id }
    }
}

impl CommandParameters for RemoveVm {
    fn entity(&self) -> EntityKey {
        EntityKey::Vm(self.vm_id)
    }

    fn describe(&self) -> String {
        format!("Removing VM {}", self.name)
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        self.name.len()
    }
}

//! What CreateVm needs.

use common::id::VmId;

use super::{CommandParameters, Requested};
use crate::model::{DiskSpec, EntityKey, NewDisk};

/// Creates a VM with its disks.
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

/// A VM that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVmRequest {
    /// The caller's, or made by the shell.
    pub vm_id: VmId,
    /// No other VM has it.
    pub name: String,
    /// For people.
    pub description: String,
    /// May be none.
    pub disks: Vec<NewDisk>,
}

impl Requested for CreateVm {
    type Request = CreateVmRequest;

    fn request(&self) -> CreateVmRequest {
        CreateVmRequest {
            vm_id: self.vm_id,
            name: self.name.clone(),
            description: self.description.clone(),
            disks: self.disks.iter().map(NewDisk::of).collect(),
        }
    }
}

impl CommandParameters for CreateVm {
    fn entity(&self) -> EntityKey {
        EntityKey::Vm(self.vm_id)
    }

    fn describe(&self) -> String {
        format!("Creating VM {}", self.name)
    }

    fn makes(&self) -> bool {
        true
    }

    fn text_bytes(&self) -> usize {
        let disks: usize = self.disks.iter().map(|disk| disk.description.len()).sum();
        self.name.len() + self.description.len() + disks
    }
}

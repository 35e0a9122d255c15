//! What CreateDisk needs.

use super::{CommandParameters, Requested};
use crate::model::{DiskSpec, EntityKey, NewDisk};

/// Creates a disk that belongs to no VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDisk {
    /// The disk.
    pub disk: DiskSpec,
}

impl Requested for CreateDisk {
    type Request = NewDisk;

    fn request(&self) -> NewDisk {
        NewDisk::of(&self.disk)
    }
}

impl CommandParameters for CreateDisk {
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
}

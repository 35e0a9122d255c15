//! What RemoveDisk needs.

use common::id::DiskId;

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Removes a disk that is attached to no VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveDisk {
    /// The disk.
    pub disk_id: DiskId,
}

impl Requested for RemoveDisk {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for RemoveDisk {
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
}

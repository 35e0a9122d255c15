//! What CopyDisk needs.

use common::id::{DiskId, DomainId};
use common::{Allocation, VolumeFormat};

use super::{CommandParameters, Requested};
use crate::model::{DiskSpec, EntityKey};

/// Copies a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDisk {
    /// The disk that is copied.
    pub source_disk_id: DiskId,
    /// The new disk.
    pub disk: DiskSpec,
    /// Whether both are compared before the copy is accepted.
    pub verify: bool,
}

/// A request for a copy of a disk. It has the capacity of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDiskRequest {
    /// The disk that is copied.
    pub source_disk_id: DiskId,
    /// Derived from the command if the caller gave none.
    pub disk_id: Option<DiskId>,
    /// The domain of the copy.
    pub domain_id: DomainId,
    /// The format of the copy.
    pub format: VolumeFormat,
    /// The allocation of the copy.
    pub allocation: Allocation,
    /// A text for people.
    pub description: String,
    /// Whether both are compared before the copy is accepted.
    pub verify: bool,
}

impl Requested for CopyDisk {
    type Request = CopyDiskRequest;

    fn request(&self) -> CopyDiskRequest {
        CopyDiskRequest {
            source_disk_id: self.source_disk_id,
            disk_id: Some(self.disk.disk_id),
            domain_id: self.disk.domain_id,
            format: self.disk.format,
            allocation: self.disk.allocation,
            description: self.disk.description.clone(),
            verify: self.verify,
        }
    }
}

impl CommandParameters for CopyDisk {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk.disk_id)
    }

    fn entities(&self) -> Vec<EntityKey> {
        vec![self.entity(), EntityKey::Disk(self.source_disk_id)]
    }

    fn describe(&self) -> String {
        format!(
            "Copying disk {} to disk {}",
            self.source_disk_id, self.disk.disk_id
        )
    }

    fn makes(&self) -> bool {
        true
    }

    fn text_bytes(&self) -> usize {
        self.disk.description.len()
    }
}

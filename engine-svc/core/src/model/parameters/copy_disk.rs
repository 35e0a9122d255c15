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
    /// Whether the two are compared before the new one counts.
    pub verify: bool,
}

/// A copy of a disk that is asked for. It is as large as its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDiskRequest {
    /// The disk that is copied.
    pub source_disk_id: DiskId,
    /// Derived from the command where the caller named none.
    pub disk_id: Option<DiskId>,
    /// Where the copy will lie.
    pub domain_id: DomainId,
    /// How the copy keeps its data.
    pub format: VolumeFormat,
    /// How the copy takes its space.
    pub allocation: Allocation,
    /// For people.
    pub description: String,
    /// Whether the two are compared before the copy counts.
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

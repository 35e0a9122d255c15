//! What CopyImage needs.

use common::VolumeAddress;
use common::id::{HostId, VolumeId};

use super::CommandParameters;
use crate::model::{DiskSpec, EntityKey};

/// Makes the copy of a disk: the child of a CopyDisk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyImage {
    /// The only volume of the disk that is copied.
    pub source: VolumeAddress,
    /// The new disk.
    pub disk: DiskSpec,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The host that serves both domains.
    pub host_id: HostId,
    /// Whether both are compared before the copy is accepted.
    pub verify: bool,
}

impl CommandParameters for CopyImage {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk.disk_id)
    }

    fn describe(&self) -> String {
        format!(
            "Copying disk {} to disk {}",
            self.source.image_id, self.disk.disk_id
        )
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

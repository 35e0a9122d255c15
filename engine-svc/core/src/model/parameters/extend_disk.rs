//! What ExtendDisk needs.

use common::VolumeAddress;
use common::id::{DiskId, HostId};
use common::words::size;

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Makes a disk larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendDisk {
    /// The disk.
    pub disk_id: DiskId,
    /// What a guest will see, in bytes.
    pub capacity_bytes: u64,
    /// What a guest saw when the command was accepted, in bytes.
    pub old_capacity_bytes: u64,
    /// The one volume of the disk.
    pub volume: VolumeAddress,
    /// The host that serves its domain.
    pub host_id: HostId,
    /// What people know the disk by.
    pub disk_name: String,
    /// What people know the host by.
    pub host_name: String,
}

/// A disk that is to be larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendDiskRequest {
    /// The disk.
    pub disk_id: DiskId,
    /// What a guest will see, as [`common::operation::capacity`] gives it.
    pub capacity_bytes: u64,
}

impl Requested for ExtendDisk {
    type Request = ExtendDiskRequest;

    fn request(&self) -> ExtendDiskRequest {
        ExtendDiskRequest {
            disk_id: self.disk_id,
            capacity_bytes: self.capacity_bytes,
        }
    }
}

impl CommandParameters for ExtendDisk {
    fn entity(&self) -> EntityKey {
        EntityKey::Disk(self.disk_id)
    }

    fn describe(&self) -> String {
        format!(
            "Extending disk {} from {} to {} on {}",
            self.disk_name,
            size(self.old_capacity_bytes),
            size(self.capacity_bytes),
            self.host_name
        )
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        self.disk_name.len() + self.host_name.len()
    }

    fn bytes(&self) -> u64 {
        self.capacity_bytes
    }
}

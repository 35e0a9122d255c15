//! Creates one disk, empty.

use common::id::{HostId, VmId, VolumeId};
use common::{CreateVolume, Operation};

use super::PlannedTask;
use super::new_image::NewImage;
use crate::model::DiskSpec;

/// See [`crate::model::Parameters::CreateImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateImage {
    /// The VM that it is made for; none for a disk of its own.
    pub vm_id: Option<VmId>,
    /// The disk.
    pub disk: DiskSpec,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The host that makes it.
    pub host_id: HostId,
}

impl NewImage for CreateImage {
    fn disk(&self) -> &DiskSpec {
        &self.disk
    }

    fn volume_id(&self) -> VolumeId {
        self.volume_id
    }

    fn host_id(&self) -> HostId {
        self.host_id
    }

    fn make(&self) -> PlannedTask {
        PlannedTask {
            host_id: self.host_id,
            operation: Operation::CreateVolume(CreateVolume {
                domain_id: self.disk.domain_id,
                image_id: self.disk.disk_id.image(),
                volume_id: self.volume_id,
                capacity_bytes: self.disk.capacity_bytes,
                format: self.disk.format,
                allocation: self.disk.allocation,
                description: self.disk.description.clone(),
            }),
        }
    }
}

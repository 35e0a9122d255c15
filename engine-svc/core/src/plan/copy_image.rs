//! Copies one disk to a new one. The source is only read; nobody removes it meanwhile, for the tree shares its lock.

use common::id::{HostId, VolumeId};
use common::{CopyVolume, Operation, VolumeAddress};

use super::PlannedTask;
use super::new_image::NewImage;
use crate::model::DiskSpec;

/// See [`crate::model::Parameters::CopyImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyImage {
    /// The one volume of the disk that is copied.
    pub source: VolumeAddress,
    /// The new disk.
    pub disk: DiskSpec,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The host that serves both domains.
    pub host_id: HostId,
    /// Whether the two are compared before the new one counts.
    pub verify: bool,
}

impl NewImage for CopyImage {
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
            operation: Operation::CopyVolume(CopyVolume {
                source: self.source,
                target: VolumeAddress {
                    domain_id: self.disk.domain_id,
                    image_id: self.disk.disk_id.image(),
                    volume_id: self.volume_id,
                },
                format: self.disk.format,
                allocation: self.disk.allocation,
                description: self.disk.description.clone(),
                verify: self.verify,
            }),
        }
    }
}

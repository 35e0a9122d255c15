//! Creates one empty disk.

use common::id::VolumeId;
use common::{CreateVolume, Operation, Timestamp};

use crate::change::Change;
use crate::model::{CreateImage, DiskSpec, PlannedTask};
use crate::plan::deletion::delete_image;
use crate::plan::verb::{Leaf, NewImage, Undo};
use crate::state::State;

impl Leaf for CreateImage {
    /// Do: the volume is LEGAL with generation 0.
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

    /// Undo: no file of the image is left.
    fn unmake(&self) -> Undo {
        Undo::Task(delete_image(self.host_id, self.disk.domain_id, self.disk.disk_id))
    }

    /// The root records the disk, once the whole tree is done.
    fn done(&self, _state: &State) -> Vec<Change> {
        Vec::new()
    }

    fn not_done(&self, _state: &State, _now: Timestamp) -> Vec<Change> {
        Vec::new()
    }

    fn new_image(&self) -> Option<&dyn NewImage> {
        Some(self)
    }
}

impl NewImage for CreateImage {
    fn disk(&self) -> &DiskSpec {
        &self.disk
    }

    fn volume_id(&self) -> VolumeId {
        self.volume_id
    }
}

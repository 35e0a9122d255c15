//! Copies one disk to a new one. The source is only read; nobody removes the source meanwhile, because the tree holds
//! a shared lock of it.

use common::id::VolumeId;
use common::{CopyVolume, Operation, Timestamp, VolumeAddress};

use crate::change::Change;
use crate::model::{CopyImage, DiskSpec, PlannedTask};
use crate::plan::deletion::delete_image;
use crate::plan::verb::{Leaf, NewImage, Undo};
use crate::state::State;

impl Leaf for CopyImage {
    /// Do: the new volume is LEGAL with generation 0, and has the content of the source.
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

impl NewImage for CopyImage {
    fn disk(&self) -> &DiskSpec {
        &self.disk
    }

    fn volume_id(&self) -> VolumeId {
        self.volume_id
    }
}

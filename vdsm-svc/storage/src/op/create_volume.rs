//! Creates a volume without a parent, and its image if there is none: a new volume, filled with nothing.

use common::id::ImageId;
use common::{CreateVolume, Fault, VolumeAddress};

use super::host_op::{HostOp, RecoveryPath, Stage, Step};
use super::new_volume::{Contents, Leftover, MakesVolume, Making, Steps, VolumeSpec};
use super::{Evidence, Work};
use crate::root::StorageRoot;

type On = Steps<CreateVolume>;

impl HostOp for CreateVolume {
    type Run = Making<()>;
    type Leftover = Leftover;

    const STAGES: &'static [Stage<Self>] = &[
        On::INTENT,
        On::IMAGE,
        Stage {
            steps: &[
                On::CREATE_FILE,
                On::NOTE_STAGED,
                On::QEMU_IMG,
                On::ALLOCATE,
                On::SYNC_FILE,
                On::LOOK,
                On::NOTE_FILE,
                On::PLACE_FILE,
                On::SYNC_IMAGE,
                On::WRITE_META,
                On::NOTE_DONE,
            ],
            undo: On::UNDO_VOLUME,
        },
    ];
    const FORWARD: &'static [Step<Self, Leftover>] = &[On::FORWARD_SYNC];
    const COMMIT_POINT: Option<&'static str> = Some(On::WRITE_META.name);
    const STARTS_PROCESSES: bool = true;

    fn begin(&self, work: Work<'_>) -> Result<Making<()>, Fault> {
        let contents = Contents {
            capacity_bytes: self.capacity_bytes,
            disk_type: "DATA",
            least_bytes: 0,
        };
        self.spec().begin(work, contents, ())
    }

    fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Leftover>, Fault> {
        self.spec().left(work, note)
    }

    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault> {
        self.spec().evidence(root, Some(self.capacity_bytes))
    }

    fn makes_in(&self) -> Option<ImageId> {
        Some(self.image_id)
    }

    fn undo_note(&self) -> &'static str {
        "removes the volume that it creates, and the image if it created that"
    }
}

impl MakesVolume for CreateVolume {
    type Filling = ();

    fn spec(&self) -> VolumeSpec<'_> {
        VolumeSpec {
            at: VolumeAddress {
                domain_id: self.domain_id,
                image_id: self.image_id,
                volume_id: self.volume_id,
            },
            format: self.format,
            allocation: self.allocation,
            description: &self.description,
        }
    }

    fn allocated(&self, work: Work<'_>, done_bytes: u64, total_bytes: u64) {
        work.ctx.progress(done_bytes, total_bytes);
    }

    /// Once the space is allocated, the volume is complete.
    fn look(&self, _: &Making<()>) -> Result<(), Fault> {
        Ok(())
    }
}

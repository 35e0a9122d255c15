//! Creates a volume without a parent, and its image if there is none: a new volume, filled with nothing.

use common::{CreateVolume, Fault, VolumeAddress};

use super::new_volume::{Content, NewVolume, Steps, steps_of};
use super::{Evidence, OpContext, OpEnd, Work};
use crate::root::StorageRoot;

const NAMES: &Steps = &steps_of!("create_volume");

/// The steps in their order; then those of the undo, and of carrying it forward.
pub(super) const STEPS: &[&str] = &[
    NAMES.note_intent,
    NAMES.make_image,
    NAMES.sync_images,
    NAMES.create_file,
    NAMES.note_draft,
    NAMES.qemu_img,
    NAMES.allocate,
    NAMES.sync_file,
    NAMES.look,
    NAMES.note_file,
    NAMES.place_file,
    NAMES.sync_image,
    NAMES.write_meta,
    NAMES.note_done,
    NAMES.undo_note,
    NAMES.undo_file,
    NAMES.undo_meta,
    NAMES.undo_sync_image,
    NAMES.undo_image,
    NAMES.undo_sync_images,
    NAMES.forward_sync,
];

/// What is there once the space is taken will do.
struct Zeros<'a>(&'a dyn OpContext);

impl Content for Zeros<'_> {
    fn allocated(&self, done_bytes: u64, total_bytes: u64) {
        self.0.progress(done_bytes, total_bytes);
    }
}

fn new_volume(op: &CreateVolume) -> NewVolume<'_> {
    NewVolume {
        at: VolumeAddress {
            domain_id: op.domain_id,
            image_id: op.image_id,
            volume_id: op.volume_id,
        },
        format: op.format,
        allocation: op.allocation,
        description: &op.description,
        steps: NAMES,
    }
}

/// Does it, step by step.
pub(super) fn run(work: Work<'_>, op: &CreateVolume) -> Result<(), Fault> {
    new_volume(op).make(work, op.capacity_bytes, &Zeros(work.ctx))
}

/// Concludes from the note and from storage.
pub(super) fn recover(
    work: Work<'_>,
    op: &CreateVolume,
    note: Option<&[u8]>,
    cause: Fault,
) -> Result<OpEnd, Fault> {
    new_volume(op).recover(work, note, cause)
}

/// What storage alone shows.
pub(super) fn evidence(root: &StorageRoot, op: &CreateVolume) -> Result<Evidence, Fault> {
    new_volume(op).evidence(root, Some(op.capacity_bytes))
}

//! Copies a volume without a parent: a new volume, filled with what a guest sees of another one.
//!
//! The source is held open from the first look to the last, and qemu-img is given that very file: what is copied
//! is what was looked at, whatever becomes of its name.

use common::operation::CAPACITY_STEP_BYTES;
use common::{Allocation, CopyVolume, Fault, FaultCode, VolumeFormat};

use super::context::step;
use super::new_volume::{Content, Draft, NewVolume, PIECES, Steps, largest_file, steps_of};
use super::{Evidence, OpEnd, Work};
use crate::domain::DirectIo;
use crate::qemu_img::{Given, Limits, argv};
use crate::root::StorageRoot;
use crate::text::shown;

mod meter;
mod source;

use meter::Meter;
use source::Source;

const NAMES: &Steps = &steps_of!("copy_volume");
const CONVERT: &str = "copy_volume.convert";
const VERIFY: &str = "copy_volume.verify";
const CHECK_SOURCE: &str = "copy_volume.check_source";

/// The steps in their order; then those of the undo, and of carrying it forward.
pub(super) const STEPS: &[&str] = &[
    NAMES.note_intent,
    NAMES.make_image,
    NAMES.sync_images,
    NAMES.create_file,
    NAMES.note_draft,
    NAMES.qemu_img,
    NAMES.allocate,
    CONVERT,
    NAMES.sync_file,
    NAMES.look,
    VERIFY,
    NAMES.note_file,
    NAMES.place_file,
    NAMES.sync_image,
    CHECK_SOURCE,
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

fn new_volume(op: &CopyVolume) -> NewVolume<'_> {
    NewVolume {
        at: op.target,
        format: op.format,
        allocation: op.allocation,
        description: &op.description,
        steps: NAMES,
    }
}

/// Does it, step by step.
pub(super) fn run(work: Work<'_>, op: &CopyVolume) -> Result<(), Fault> {
    let source = Source::open(work.root, op.source)?;
    let target_direct = work.root.domain(op.target.domain_id)?.direct_io() != DirectIo::Unsupported;
    let data_bytes = source.data_bytes()?;
    let copy = Copy {
        work,
        op,
        meter: Meter::new(work.ctx, data_bytes, op.verify),
        most_bytes: source.most_bytes(work.ctx)?.max(data_bytes),
        source: &source,
        target_direct,
    };
    // A volume that was extended or came from elsewhere may have any size; what is made has VDSM's step.
    let capacity_bytes = source.capacity_bytes().next_multiple_of(CAPACITY_STEP_BYTES);
    new_volume(op).make(work, capacity_bytes, &copy)
}

/// Concludes from the note and from storage; the source is not needed any more.
pub(super) fn recover(
    work: Work<'_>,
    op: &CopyVolume,
    note: Option<&[u8]>,
    cause: Fault,
) -> Result<OpEnd, Fault> {
    new_volume(op).recover(work, note, cause)
}

/// What storage alone shows. The source may have changed since, or be gone: it is not asked for its size.
pub(super) fn evidence(root: &StorageRoot, op: &CopyVolume) -> Result<Evidence, Fault> {
    new_volume(op).evidence(root, None)
}

struct Copy<'a> {
    work: Work<'a>,
    op: &'a CopyVolume,
    source: &'a Source,
    meter: Meter<'a>,
    /// The most that a guest can see as data in the source, by the source's own tables.
    most_bytes: u64,
    target_direct: bool,
}

impl Content for Copy<'_> {
    fn disk_type(&self) -> &str {
        self.source.disk_type()
    }

    fn least_bytes(&self) -> u64 {
        self.most_bytes
    }

    fn fill(&self, draft: &Draft<'_>) -> Result<(), Fault> {
        step(self.work.ctx, CONVERT, || {
            let source = Given::to_read(self.source.file())?;
            let target = Given::to_write(draft.file)?;
            let argv = argv::convert(self.source.input(source.path()), self.target(target.path()));
            let largest = largest_file(self.op.format, draft.capacity_bytes, self.file_data_bytes(draft));
            let limits = Limits::DATA.with_files_of(largest);
            let ended = self.work.qemu_img(vec![source, target], &argv, limits, &|io| {
                self.meter.converted(io);
                self.check_taken(draft)
            })?;
            ended
                .well()
                .map_err(|fault| fault.about(self.op.source.volume_id))?;
            self.check_taken(draft)?;
            self.meter.all_converted();
            Ok(())
        })
    }

    /// A copy of nothing looks like any other empty volume: some pieces of the source are compared by us, whether
    /// the whole is to be compared or not.
    fn look(&self, draft: &Draft<'_>) -> Result<(), Fault> {
        let (source, target) = (self.source.guest()?, draft.guest()?);
        for piece in source.pieces(PIECES).map_err(|e| self.source.unread(e))? {
            let expected = source.read(piece).map_err(|e| self.source.unread(e))?;
            let found = target.read(piece).map_err(|e| draft.unread(e))?;
            if expected.is_some() && found.is_some() && found != expected {
                return Err(self.differs(&format!("seen in {} bytes at {}", piece.bytes, piece.at)));
            }
        }
        Ok(())
    }

    fn verify(&self, draft: &Draft<'_>) -> Result<(), Fault> {
        if !self.op.verify {
            return Ok(());
        }
        step(self.work.ctx, VERIFY, || {
            let source = Given::to_read(self.source.file())?;
            let target = Given::to_read(draft.file)?;
            let argv = argv::compare(self.source.input(source.path()), self.target(target.path()));
            let limits = Limits::DATA.with_files_of(0);
            let ended = self.work.qemu_img(vec![source, target], &argv, limits, &|io| {
                self.meter.compared(io);
                Ok(())
            })?;
            if ended.exit() == Some(DIFFERENT) {
                return Err(self.differs(&ended.stdout_text()));
            }
            let said = ended.well()?.stdout.text();
            if !said.contains(SAME) {
                return Err(self.not_compared(said.trim()));
            }
            self.meter.all_compared();
            Ok(())
        })
    }

    fn confirm(&self) -> Result<(), Fault> {
        step(self.work.ctx, CHECK_SOURCE, || self.source.check_unchanged())
    }
}

/// What a file system may take for a file beyond what is written to it: room ahead of its end above all.
const SLACK_BYTES: u64 = 64 << 20;

/// What `qemu-img compare` says where it has seen no difference. One that says nothing may have compared nothing.
const SAME: &str = "Images are identical";

/// With this `qemu-img compare` says that it has seen a difference; more is an error.
const DIFFERENT: i32 = 1;

impl Copy<'_> {
    fn target<'a>(&self, path: &'a str) -> argv::Fresh<'a> {
        argv::Fresh {
            format: self.op.format,
            path,
            direct: self.target_direct,
            allocated: self.op.allocation == Allocation::Preallocated,
        }
    }

    /// What of the file holds data, or may: all where the space was taken.
    fn file_data_bytes(&self, draft: &Draft<'_>) -> u64 {
        match self.op.allocation {
            Allocation::Preallocated => draft.capacity_bytes,
            Allocation::Sparse => self.most_bytes,
        }
    }

    /// Whether the copy takes no more than its source can hold: an image may be changed to tell of far more.
    fn check_taken(&self, draft: &Draft<'_>) -> Result<(), Fault> {
        let taken = draft.taken_bytes()?;
        let most = largest_file(
            VolumeFormat::Cow,
            draft.capacity_bytes,
            self.file_data_bytes(draft),
        );
        // File systems round up, and take some for themselves; the file's own end is the kernel's to keep.
        let most = most.saturating_add(most / 8).saturating_add(SLACK_BYTES);
        if taken <= most {
            return Ok(());
        }
        let source = self.op.source.volume_id;
        Err(Fault::new(
            FaultCode::VolumeDataInvalid,
            format!(
                "the copy of volume {source} takes {taken} bytes already, and the volume told of {} at most; the copy is removed: see who changed the volume",
                self.most_bytes
            ),
        )
        .about(source))
    }

    fn not_compared(&self, said: &str) -> Fault {
        let (source, target) = (self.op.source.volume_id, self.op.target.volume_id);
        Fault::new(
            FaultCode::QemuImgFailed,
            format!(
                "qemu-img compared the copy {target} with volume {source}, ended well and does not say that they are the same ({:?}); the copy is removed: check which qemu-img is installed",
                shown(said)
            ),
        )
        .about(target)
    }

    fn differs(&self, said: &str) -> Fault {
        let (source, target) = (self.op.source.volume_id, self.op.target.volume_id);
        Fault::new(
            FaultCode::CopyDiffers,
            format!(
                "the copy {target} does not hold what volume {source} holds ({}); it is removed: look at the kernel's log and the disks",
                said.trim()
            ),
        )
        .about(target)
    }
}

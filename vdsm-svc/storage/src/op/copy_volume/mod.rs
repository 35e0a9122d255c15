//! Copies a volume without a parent: a new volume, filled with what a guest sees of another one.
//!
//! The source is held open from the first check to the last, and qemu-img gets that open file: what is copied is what
//! was checked, whatever happens to its name. The copy is accepted only if the name still leads there.

use common::id::ImageId;
use common::operation::CAPACITY_STEP_BYTES;
use common::{Allocation, CopyVolume, Fault, FaultCode, VolumeFormat};

use super::host_op::{HostOp, RecoveryPath, Stage, Step};
use super::new_volume::{
    Contents, Leftover, MakesVolume, Making, PIECES, StagedVolume, Steps, VolumeSpec, largest_file,
};
use super::{Evidence, Work};
use crate::domain::DirectIo;
use crate::qemu_img::{Given, Limits, argv};
use crate::root::StorageRoot;
use crate::text::shown;

mod meter;
mod source;

use meter::Meter;
use source::Source;

type On = Steps<CopyVolume>;

const CONVERT: Step<CopyVolume, Making<Copied>> = Step::new("convert", convert);
const VERIFY: Step<CopyVolume, Making<Copied>> = Step::new("verify", verify).only_if(|op, _| Ok(op.verify));
const CHECK_SOURCE: Step<CopyVolume, Making<Copied>> = Step::new("check_source", |_, work, making| {
    making.filling.source.check_unchanged(work.root)
});

impl HostOp for CopyVolume {
    type Run = Making<Copied>;
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
                CONVERT,
                On::SYNC_FILE,
                On::LOOK,
                VERIFY,
                On::NOTE_FILE,
                On::PLACE_FILE,
                On::SYNC_IMAGE,
                CHECK_SOURCE,
                On::WRITE_META,
                On::NOTE_DONE,
            ],
            undo: On::UNDO_VOLUME,
        },
    ];
    const FORWARD: &'static [Step<Self, Leftover>] = &[On::FORWARD_SYNC];
    const COMMIT_POINT: Option<&'static str> = Some(On::WRITE_META.name);
    const STARTS_PROCESSES: bool = true;

    fn begin(&self, work: Work<'_>) -> Result<Making<Copied>, Fault> {
        let source = Source::open(work.root, self.source)?;
        let target_direct = work.root.domain(self.target.domain_id)?.direct_io() != DirectIo::Unsupported;
        let data_bytes = source.data_bytes()?;
        let most_bytes = source.most_bytes(work.ctx)?.max(data_bytes);
        let disk_type = source.disk_type().to_owned();
        let contents = Contents {
            // A volume that was extended or created elsewhere may have any size; the copy's size is a multiple of
            // VDSM's granularity.
            capacity_bytes: source.capacity_bytes().next_multiple_of(CAPACITY_STEP_BYTES),
            disk_type: &disk_type,
            least_bytes: most_bytes,
        };
        let copied = Copied {
            source,
            data_bytes,
            most_bytes,
            target_direct,
        };
        self.spec().begin(work, contents, copied)
    }

    /// The source is not needed any more.
    fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Leftover>, Fault> {
        self.spec().left(work, note)
    }

    /// The source may have changed since, or be gone, so its size is not read.
    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault> {
        self.spec().evidence(root, None)
    }

    fn makes_in(&self) -> Option<ImageId> {
        Some(self.target.image_id)
    }

    fn undo_note(&self) -> &'static str {
        "removes the copy that it makes, and the image if it created that; the source is not changed"
    }
}

impl MakesVolume for CopyVolume {
    type Filling = Copied;

    fn spec(&self) -> VolumeSpec<'_> {
        VolumeSpec {
            at: self.target,
            format: self.format,
            allocation: self.allocation,
            description: &self.description,
        }
    }

    /// Progress is counted in what is copied.
    fn allocated(&self, _: Work<'_>, _: u64, _: u64) {}

    /// A copy of nothing looks like any empty volume, so we always compare some samples with the source, even without
    /// `verify`.
    fn look(&self, making: &Making<Copied>) -> Result<(), Fault> {
        let (source, staged) = (&making.filling.source, making.staged()?);
        let (seen, target) = (source.guest()?, staged.guest()?);
        for piece in seen.pieces(PIECES).map_err(|e| source.unread(e))? {
            let expected = seen.read(piece).map_err(|e| source.unread(e))?;
            let found = target.read(piece).map_err(|e| staged.unread(e))?;
            if expected.is_some() && found.is_some() && found != expected {
                return Err(differs(
                    self,
                    &format!("seen in {} bytes at {}", piece.bytes, piece.at),
                ));
            }
        }
        Ok(())
    }
}

/// The source of a new volume's data.
pub(super) struct Copied {
    source: Source,
    /// The bytes of the source's file that are data, not holes.
    data_bytes: u64,
    /// The maximum of data that a guest can see in the source, according to its tables.
    most_bytes: u64,
    target_direct: bool,
}

fn convert(op: &CopyVolume, work: Work<'_>, making: &mut Making<Copied>) -> Result<(), Fault> {
    let (copied, staged) = (&making.filling, making.staged()?);
    let source = Given::to_read(copied.source.file())?;
    let target = Given::to_write(staged.file)?;
    let meter = copied.meter(op, work);
    let argv = argv::convert(
        copied.source.input(source.path()),
        copied.target(op, target.path()),
    );
    let largest = largest_file(
        op.format,
        staged.capacity_bytes,
        copied.file_data_bytes(op, &staged),
    );
    let limits = Limits::DATA.with_files_of(largest);
    let ended = work.qemu_img(vec![source, target], &argv, limits, &|io| {
        meter.converted(io);
        copied.check_taken(op, &staged)
    })?;
    ended.well().map_err(|fault| fault.about(op.source.volume_id))?;
    copied.check_taken(op, &staged)?;
    meter.all_converted();
    Ok(())
}

fn verify(op: &CopyVolume, work: Work<'_>, making: &mut Making<Copied>) -> Result<(), Fault> {
    let (copied, staged) = (&making.filling, making.staged()?);
    let source = Given::to_read(copied.source.file())?;
    let target = Given::to_read(staged.file)?;
    let meter = copied.meter(op, work);
    let argv = argv::compare(
        copied.source.input(source.path()),
        copied.target(op, target.path()),
    );
    let limits = Limits::DATA.with_files_of(0);
    let ended = work.qemu_img(vec![source, target], &argv, limits, &|io| {
        meter.compared(io);
        Ok(())
    })?;
    if ended.exit() == Some(DIFFERENT) {
        return Err(differs(op, &ended.stdout_text()));
    }
    let said = ended.well()?.stdout.text();
    if !said.contains(SAME) {
        return Err(not_compared(op, said.trim()));
    }
    meter.all_compared();
    Ok(())
}

/// The space that a file system may allocate beyond what is written: mainly preallocation after the end of the file.
const SLACK_BYTES: u64 = 64 << 20;

/// The output of `qemu-img compare` if there is no difference. Without it, the program may have compared nothing.
const SAME: &str = "Images are identical";

/// The exit status of `qemu-img compare` for a difference; higher ones are errors.
const DIFFERENT: i32 = 1;

impl Copied {
    fn meter<'a>(&self, op: &CopyVolume, work: Work<'a>) -> Meter<'a> {
        Meter::new(work.ctx, self.data_bytes, op.verify)
    }

    fn target<'a>(&self, op: &CopyVolume, path: &'a str) -> argv::Fresh<'a> {
        argv::Fresh {
            format: op.format,
            path,
            direct: self.target_direct,
            allocated: op.allocation == Allocation::Preallocated,
        }
    }

    /// The bytes of the file that are or may be data: all of them if the volume is preallocated.
    fn file_data_bytes(&self, op: &CopyVolume, staged: &StagedVolume<'_>) -> u64 {
        match op.allocation {
            Allocation::Preallocated => staged.capacity_bytes,
            Allocation::Sparse => self.most_bytes,
        }
    }

    /// Whether the copy takes no more space than its source can need: an image may be changed to claim far more.
    fn check_taken(&self, op: &CopyVolume, staged: &StagedVolume<'_>) -> Result<(), Fault> {
        let taken = staged.taken_bytes()?;
        let most = largest_file(
            VolumeFormat::Cow,
            staged.capacity_bytes,
            self.file_data_bytes(op, staged),
        );
        // File systems round up, and need some space themselves; the kernel limits the size of the file.
        let most = most.saturating_add(most / 8).saturating_add(SLACK_BYTES);
        if taken <= most {
            return Ok(());
        }
        let source = op.source.volume_id;
        Err(Fault::new(
            FaultCode::VolumeDataInvalid,
            format!(
                "the copy of volume {source} already takes {taken} bytes, but the volume has at most {}; the copy is removed: find out who changed the volume",
                self.most_bytes
            ),
        )
        .about(source))
    }
}

fn not_compared(op: &CopyVolume, said: &str) -> Fault {
    let (source, target) = (op.source.volume_id, op.target.volume_id);
    Fault::new(
        FaultCode::QemuImgFailed,
        format!(
            "qemu-img compared the copy {target} with volume {source}, succeeded but did not report that they are identical ({:?}); the copy is removed: check which qemu-img is installed",
            shown(said)
        ),
    )
    .about(target)
}

fn differs(op: &CopyVolume, said: &str) -> Fault {
    let (source, target) = (op.source.volume_id, op.target.volume_id);
    Fault::new(
        FaultCode::CopyDiffers,
        format!(
            "the copy {target} differs from volume {source} ({}); it is removed: check the kernel's log and the disks",
            said.trim()
        ),
    )
    .about(target)
}

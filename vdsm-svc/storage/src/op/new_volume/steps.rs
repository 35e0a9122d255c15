//! The steps that all verbs that create a volume have in common; each verb puts them into its own table.

use std::marker::PhantomData;

use common::{Allocation, Fault, VolumeFormat};

use super::super::Work;
use super::super::host_op::{Stage, Step};
use super::marks::Marks;
use super::{Leftover, Made, MakesVolume, Making, Space, StagedVolume, exists};
use crate::file::Identity;
use crate::names;
use crate::qemu_img::{Given, Limits, argv};
use crate::volume::write_meta;

/// The steps for the table of `O`, in the order in which they run.
pub(in crate::op) struct Steps<O>(PhantomData<O>);

type MakingOf<O> = Making<<O as MakesVolume>::Filling>;
type Do<O> = Step<O, MakingOf<O>>;
type Back<O> = Step<O, Leftover>;

impl<O: MakesVolume> Steps<O> {
    pub(in crate::op) const NOTE_INTENT: Do<O> = Do::<O>::new("note_intent", note);
    pub(in crate::op) const MAKE_IMAGE: Do<O> = Do::<O>::new("make_image", make_image);
    pub(in crate::op) const SYNC_IMAGES: Do<O> =
        Do::<O>::new("sync_images", |_, _, making| Ok(making.domain.images.sync()?));
    pub(in crate::op) const CREATE_FILE: Do<O> = Do::<O>::new("create_file", create_file);
    pub(in crate::op) const NOTE_STAGED: Do<O> = Do::<O>::new("note_staged", note_staged);
    pub(in crate::op) const QEMU_IMG: Do<O> = Do::<O>::new("qemu_img", qemu_img);
    pub(in crate::op) const ALLOCATE: Do<O> = Do::<O>::new("allocate", allocate);
    pub(in crate::op) const SYNC_FILE: Do<O> = Do::<O>::new("sync_file", |_, _, making| {
        let staged = making.staged()?;
        Ok(staged.image.sync_file(staged.name, staged.file)?)
    });
    pub(in crate::op) const LOOK: Do<O> = Do::<O>::new("look", look);
    pub(in crate::op) const NOTE_FILE: Do<O> = Do::<O>::new("note_file", note_file);
    pub(in crate::op) const PLACE_FILE: Do<O> =
        Do::<O>::new("place_file", |_, _, making| place(&making.staged()?));
    pub(in crate::op) const SYNC_IMAGE: Do<O> =
        Do::<O>::new("sync_image", |_, _, making| Ok(making.image()?.sync()?));
    /// The rename of the metadata commits. Everything before it is durable by now.
    pub(in crate::op) const WRITE_META: Do<O> = Do::<O>::new("write_meta", commit);
    pub(in crate::op) const NOTE_DONE: Do<O> = Do::<O>::new("note_done", |_, work, making| {
        work.ctx.note(&making.note.encode(), true)
    });
}

impl<O: MakesVolume> Steps<O> {
    pub(in crate::op) const UNDO_NOTE: Back<O> =
        Back::<O>::new("undo_note", |_, work, left| left.note_undoing(work)).only_if(has_image);
    pub(in crate::op) const UNDO_FILE: Back<O> =
        Back::<O>::new("undo_file", |op, work, left| left.remove_file(work, op.spec().at)).only_if(has_image);
    pub(in crate::op) const UNDO_META: Back<O> =
        Back::<O>::new("undo_meta", |op, _, left| left.remove_meta(op.spec().at)).only_if(has_image);
    pub(in crate::op) const UNDO_SYNC_IMAGE: Back<O> =
        Back::<O>::new("undo_sync_image", |_, _, left| left.sync_image()).only_if(has_image);
    pub(in crate::op) const UNDO_IMAGE: Back<O> =
        Back::<O>::new("undo_image", |op, _, left| left.remove_image(op.spec().at))
            .only_if(|_, left| left.is_empty());
    pub(in crate::op) const UNDO_SYNC_IMAGES: Back<O> =
        Back::<O>::new("undo_sync_images", |_, _, left| left.sync_images());
    pub(in crate::op) const FORWARD_SYNC: Back<O> = Back::<O>::new("forward_sync", |_, _, left| {
        left.sync_image()?;
        left.sync_images()
    });
}

/// What the tables of these verbs have in common.
impl<O: MakesVolume> Steps<O> {
    /// The first stage.
    pub(in crate::op) const INTENT: Stage<O> = Stage {
        steps: &[Self::NOTE_INTENT],
        undo: &[],
    };

    /// The second stage: the image's directory.
    pub(in crate::op) const IMAGE: Stage<O> = Stage {
        steps: &[Self::MAKE_IMAGE, Self::SYNC_IMAGES],
        undo: &[Self::UNDO_IMAGE, Self::UNDO_SYNC_IMAGES],
    };

    /// Undoes the stage that makes the volume.
    pub(in crate::op) const UNDO_VOLUME: &'static [Back<O>] = &[
        Self::UNDO_NOTE,
        Self::UNDO_FILE,
        Self::UNDO_META,
        Self::UNDO_SYNC_IMAGE,
    ];
}

fn has_image<O>(_: &O, left: &Leftover) -> Result<bool, Fault> {
    Ok(left.has_image())
}

fn note<O: MakesVolume>(_: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    work.ctx.note(&making.note.encode(), false)
}

fn make_image<O: MakesVolume>(op: &O, _: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    let name = op.spec().at.image_id.to_string();
    let images = &making.domain.images;
    making.image = Some(match images.dir(&name)? {
        Some(image) => image,
        None => images.create_dir(name)?,
    });
    Ok(())
}

fn create_file<O: MakesVolume>(_: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    let image = making.image()?;
    image.unlink(&making.own)?;
    let file = image.create_file(&making.own)?;
    let marks = Marks::of(&file).map_err(|e| image.error("look at", making.own.as_ref(), e))?;
    work.root.under_way().made(work.task, &file);
    making.marks = Some(marks);
    making.file = Some(file);
    Ok(())
}

fn note_staged<O: MakesVolume>(op: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    let staged = making.staged()?;
    let identity = Identity::of_open(staged.file);
    let made = Made {
        image: staged.image.own_identity()?,
        staged: identity.map_err(|e| staged.unread(e.into()))?,
    };
    making.note.made = Some(made);
    note(op, work, making)
}

/// Creates the empty qcow2 volume.
fn qemu_img<O: MakesVolume>(op: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    let (staged, format) = (making.staged()?, op.spec().format);
    let capacity_bytes = staged.capacity_bytes;
    let file = Given::to_write(staged.file)?;
    let argv = argv::create(format, file.path(), capacity_bytes);
    let limits = Limits::CREATE.with_files_of(largest_file(format, capacity_bytes, capacity_bytes));
    let ended = work.qemu_img(vec![file], &argv, limits, &|_| Ok(()))?;
    ended.well()?;
    staged.check_empty(work.ctx)
}

/// Allocates its space if it is preallocated.
fn allocate<O: MakesVolume>(op: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    if op.spec().allocation == Allocation::Sparse {
        return Ok(());
    }
    let staged = making.staged()?;
    let space = Space::of_new(op.spec().format, staged.capacity_bytes, staged.file_bytes()?);
    let file = (staged.image, staged.name, staged.file);
    space.take(file, work.ctx, &|done| {
        op.allocated(work, done, staged.capacity_bytes)
    })?;
    making.taken_bytes = staged.taken_bytes()?;
    Ok(())
}

fn look<O: MakesVolume>(op: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    let staged = making.staged()?;
    staged.check(work.ctx)?;
    staged.check_space(making.taken_bytes)?;
    op.look(making)
}

fn note_file<O: MakesVolume>(op: &O, work: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    making.note.file = Some(making.staged()?.identity()?);
    note(op, work, making)
}

fn commit<O: MakesVolume>(_: &O, _: Work<'_>, making: &mut MakingOf<O>) -> Result<(), Fault> {
    let (image, volume) = (making.image()?, making.at.volume_id);
    let name = names::meta(volume);
    if let Some(found) = image.kind(&name)? {
        return Err(exists(volume, &format!("{name} ({found:?})")));
    }
    // The last look: from here on it is a volume.
    making.staged()?.check_placed()?;
    write_meta(image, volume, &making.meta)
}

/// Renames the file into place, and checks that it is the same file, without another name.
fn place(staged: &StagedVolume<'_>) -> Result<(), Fault> {
    let name = staged.volume.to_string();
    staged.identity()?;
    match staged.image.rename_new(staged.name, &name) {
        Err(e) if e.is_taken() => return Err(exists(staged.volume, &name)),
        done => done?,
    }
    staged.check_placed()
}

/// Besides the L2 tables, a qcow2 file has a header, an L1 table and a few clusters of reference counts.
const COW_LEAST_BYTES: u64 = 16 << 20;

/// Tables and reference counts take 10 bytes for each cluster of 64 KiB; the file system rounds up.
const COW_PART: u64 = 1024;

/// The largest file that a volume of this capacity can be with this much data: what fills it writes no more.
pub(in crate::op) fn largest_file(format: VolumeFormat, capacity_bytes: u64, data_bytes: u64) -> u64 {
    match format {
        // A raw file is as long as the guest's disk, however little data it has.
        VolumeFormat::Raw => capacity_bytes,
        VolumeFormat::Cow => data_bytes
            .saturating_add(capacity_bytes / COW_PART)
            .saturating_add(COW_LEAST_BYTES),
    }
}

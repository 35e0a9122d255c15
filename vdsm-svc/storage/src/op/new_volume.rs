//! Creates a volume without a parent, and its image if there is none.
//!
//! The data is made under the task's own name, filled and synced there, and then renamed into its place; the
//! metadata comes last and says LEGAL from its first instant. That one write commits: with it there is a volume,
//! without it there is nothing but what the task can name as its own.

use std::time::{SystemTime, UNIX_EPOCH};

use common::id::{TaskId, VolumeId};
use common::{Allocation, CreateVolume, Fault, FaultCode};

use super::context::{firm_step, step};
use super::note::Lines;
use super::{OpContext, OpEnd};
use crate::domain::Domain;
use crate::file::{Dir, Identity};
use crate::names;
use crate::qemu_img::{Job, Limits, argv};
use crate::root::StorageRoot;
use crate::run_dir::{self, RunDir};
use crate::volume::{Legality, Role, VolumeMeta, read_meta, write_meta};

mod allocate;
mod evidence;

pub(in crate::op) use evidence::evidence;

const NOTE_INTENT: &str = "create_volume.note_intent";
const MAKE_IMAGE: &str = "create_volume.make_image";
const SYNC_IMAGES: &str = "create_volume.sync_images";
const CREATE_FILE: &str = "create_volume.create_file";
const QEMU_IMG: &str = "create_volume.qemu_img";
const ALLOCATE: &str = "create_volume.allocate";
const SYNC_FILE: &str = "create_volume.sync_file";
const NOTE_FILE: &str = "create_volume.note_file";
const PLACE_FILE: &str = "create_volume.place_file";
const SYNC_IMAGE: &str = "create_volume.sync_image";
const WRITE_META: &str = "create_volume.write_meta";
const NOTE_DONE: &str = "create_volume.note_done";
const UNDO_FILE: &str = "create_volume.undo_file";
const UNDO_META: &str = "create_volume.undo_meta";
const UNDO_SYNC_IMAGE: &str = "create_volume.undo_sync_image";
const UNDO_IMAGE: &str = "create_volume.undo_image";
const UNDO_SYNC_IMAGES: &str = "create_volume.undo_sync_images";
const FORWARD_SYNC: &str = "create_volume.forward_sync";

/// The steps in their order; then those of the undo, and of carrying it forward.
pub(super) const STEPS: &[&str] = &[
    NOTE_INTENT,
    MAKE_IMAGE,
    SYNC_IMAGES,
    CREATE_FILE,
    QEMU_IMG,
    ALLOCATE,
    SYNC_FILE,
    NOTE_FILE,
    PLACE_FILE,
    SYNC_IMAGE,
    WRITE_META,
    NOTE_DONE,
    UNDO_FILE,
    UNDO_META,
    UNDO_SYNC_IMAGE,
    UNDO_IMAGE,
    UNDO_SYNC_IMAGES,
    FORWARD_SYNC,
];

/// What is noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    /// The data that it made; noted before it stands under the volume's name.
    file: Option<Identity>,
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        let lines = Lines::default();
        match self.file {
            Some(file) => lines.with("file", file).encode(),
            None => lines.encode(),
        }
    }

    fn decode(note: &[u8]) -> Result<Self, Fault> {
        let lines = Lines::decode(note)?;
        Ok(Self {
            file: lines.get("file")?,
        })
    }
}

/// Does it, step by step.
pub(super) fn run(
    root: &StorageRoot,
    op: &CreateVolume,
    task: TaskId,
    ctx: &dyn OpContext,
) -> Result<(), Fault> {
    let domain = root.writable(op.domain_id)?;
    let mut note = check(root, &domain, op, task)?;
    step(ctx, NOTE_INTENT, || ctx.note(&note.encode(), false))?;
    let image = step(ctx, MAKE_IMAGE, || make_image(&domain, op))?;
    step(ctx, SYNC_IMAGES, || Ok(domain.images.sync()?))?;

    let own = names::task_file(task);
    let file = step(ctx, CREATE_FILE, || {
        image.unlink(&own)?;
        Ok(image.create_file(&own)?)
    })?;
    step(ctx, QEMU_IMG, || qemu_img(root, op, task, &image, ctx))?;
    step(ctx, ALLOCATE, || match op.allocation {
        Allocation::Sparse => Ok(()),
        Allocation::Preallocated => allocate::allocate(&image, &own, &file, op, ctx),
    })?;
    step(ctx, SYNC_FILE, || Ok(image.sync_file(&own, &file)?))?;

    note.file = image.identity(&own)?;
    step(ctx, NOTE_FILE, || ctx.note(&note.encode(), false))?;
    step(ctx, PLACE_FILE, || place(&image, &own, op.volume_id))?;
    step(ctx, SYNC_IMAGE, || Ok(image.sync()?))?;

    // The point of no return: the metadata's rename. What is before it is durable by now.
    ctx.commit_point()?;
    firm_step(ctx, WRITE_META, || {
        if let Some(found) = image.kind(names::meta(op.volume_id))? {
            return Err(exists(
                op.volume_id,
                &format!("{} ({found:?})", names::meta(op.volume_id)),
            ));
        }
        write_meta(&image, op.volume_id, &metadata(op))
    })?;
    firm_step(ctx, NOTE_DONE, || ctx.note(&note.encode(), true))?;
    // The run directory of a task that is done hurts nobody if it stays.
    let _ = run_dir::remove(root, task);
    Ok(())
}

/// Looks before anything is noted: the image must be absent, or hold nothing but what an earlier try of this very
/// task left, of which no process works any more. A volume without a parent beside others would make no chain; and
/// whoever undoes the whole image must not meet what it did not make.
fn check(root: &StorageRoot, domain: &Domain, op: &CreateVolume, task: TaskId) -> Result<Note, Fault> {
    if let Some(image) = domain.images.dir(op.image_id.to_string())? {
        let own = names::task_file(task);
        for entry in image.entries()? {
            if entry.name != own.as_str() {
                return Err(exists(op.volume_id, &entry.name.to_string_lossy()));
            }
            super::no_process_left(root, task)?;
        }
    }
    metadata(op).encode().map_err(|e| e.fault(op.volume_id))?;
    if op.allocation == Allocation::Preallocated {
        allocate::check_space(domain, op.capacity_bytes)?;
    }
    Ok(Note { file: None })
}

fn exists(volume: VolumeId, name: &str) -> Fault {
    Fault::new(
        FaultCode::VolumeExists,
        format!(
            "volume {volume} cannot be made: there is {name} in its image already; choose another id, or delete the image"
        ),
    )
    .about(volume)
}

fn make_image(domain: &Domain, op: &CreateVolume) -> Result<Dir, Fault> {
    match domain.images.dir(op.image_id.to_string())? {
        Some(image) => Ok(image),
        None => Ok(domain.images.create_dir(op.image_id.to_string())?),
    }
}

fn qemu_img(
    root: &StorageRoot,
    op: &CreateVolume,
    task: TaskId,
    image: &Dir,
    ctx: &dyn OpContext,
) -> Result<(), Fault> {
    let run_dir = RunDir::open(root, task)?;
    let argv = argv::create(op.format, &names::task_file(task), op.capacity_bytes);
    let job = Job {
        argv: &argv,
        dir: image,
        run_dir: &run_dir,
        limits: Limits::CREATE,
        stop: &|| ctx.aborted(),
    };
    root.qemu_img().run(&job).map(drop)
}

fn place(image: &Dir, own: &str, volume: VolumeId) -> Result<(), Fault> {
    match image.rename_new(own, volume.to_string()) {
        Err(e) if e.is_taken() => Err(exists(volume, &volume.to_string())),
        done => Ok(done?),
    }
}

fn metadata(op: &CreateVolume) -> VolumeMeta {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    VolumeMeta {
        capacity_bytes: op.capacity_bytes,
        created_s: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        description: op.description.clone(),
        disk_type: "DATA".to_owned(),
        domain: op.domain_id,
        format: op.format,
        generation: 0,
        image: op.image_id,
        legality: Legality::Legal,
        modified_s: 0,
        parent: None,
        sequence: 0,
        allocation: op.allocation,
        role: Role::Leaf,
    }
}

/// Concludes from the note and from storage.
pub(super) fn recover(
    root: &StorageRoot,
    op: &CreateVolume,
    task: TaskId,
    note: Option<&[u8]>,
    cause: Fault,
    ctx: &dyn OpContext,
) -> Result<OpEnd, Fault> {
    // Without a note nothing was begun.
    let Some(note) = note.map(Note::decode).transpose()? else {
        return Ok(OpEnd::Undone(cause));
    };
    let domain = root.writable(op.domain_id)?;
    let Some(image) = domain.images.dir(op.image_id.to_string())? else {
        firm_step(ctx, UNDO_SYNC_IMAGES, || Ok(domain.images.sync()?))?;
        return Ok(OpEnd::Undone(cause));
    };
    let owner = Owner::of(image.identity(op.volume_id.to_string())?, note.file);
    match verdict(owner, read_meta(&image, op.volume_id)?, op, &note)? {
        Verdict::Forward => {
            firm_step(ctx, FORWARD_SYNC, || {
                image.sync()?;
                Ok(domain.images.sync()?)
            })?;
            Ok(OpEnd::Finished)
        }
        Verdict::Undo => {
            undo(&domain, &image, op, task, &note, owner, ctx)?;
            Ok(OpEnd::Undone(cause))
        }
    }
}

/// Whose data stands under the volume's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Ours,
    Stranger,
}

impl Owner {
    fn of(placed: Option<Identity>, noted: Option<Identity>) -> Self {
        match placed {
            None => Self::Nobody,
            Some(_) if placed == noted => Self::Ours,
            Some(_) => Self::Stranger,
        }
    }
}

enum Verdict {
    Forward,
    Undo,
}

/// What storage says of the commit.
///
/// # Errors
/// `GENERATION_MISMATCH` for a state that this operation does not make: it is left as it is.
fn verdict(owner: Owner, meta: Option<VolumeMeta>, op: &CreateVolume, note: &Note) -> Result<Verdict, Fault> {
    let Some(meta) = meta else {
        return Ok(Verdict::Undo);
    };
    let illegal = meta.legality == Legality::Illegal && meta.generation == 0;
    match owner {
        Owner::Ours if is_committed(&meta, op) => Ok(Verdict::Forward),
        Owner::Ours if illegal => Ok(Verdict::Undo),
        // An undo that was cut off after it had unlinked the data.
        Owner::Nobody if illegal => Ok(Verdict::Undo),
        // Another volume took the name before ours was in place: only what is ours is undone.
        Owner::Stranger => Ok(Verdict::Undo),
        Owner::Nobody if note.file.is_none() => Ok(Verdict::Undo),
        Owner::Ours | Owner::Nobody => Err(changed(op, &meta)),
    }
}

fn is_committed(meta: &VolumeMeta, op: &CreateVolume) -> bool {
    meta.legality == Legality::Legal
        && meta.domain == op.domain_id
        && meta.image == op.image_id
        && meta.format == op.format
}

fn changed(op: &CreateVolume, meta: &VolumeMeta) -> Fault {
    Fault::new(
        FaultCode::GenerationMismatch,
        format!(
            "volume {} is {} with generation {}, which this task did not write; it was not touched: look at image {}",
            op.volume_id,
            meta.legality.as_str(),
            meta.generation,
            op.image_id
        ),
    )
    .about(op.volume_id)
}

/// The way back, in reverse. Each step finds its work done if it was done before.
fn undo(
    domain: &Domain,
    image: &Dir,
    op: &CreateVolume,
    task: TaskId,
    note: &Note,
    owner: Owner,
    ctx: &dyn OpContext,
) -> Result<(), Fault> {
    let volume = op.volume_id;
    firm_step(ctx, UNDO_FILE, || {
        image.unlink(names::task_file(task))?;
        if owner == Owner::Ours {
            image.unlink(volume.to_string())?;
        }
        Ok(())
    })?;
    firm_step(ctx, UNDO_META, || {
        // Metadata is written only after the data was noted; that there was none was seen before anything was.
        if note.file.is_some() && owner != Owner::Stranger {
            image.unlink(names::meta_new(volume))?;
            image.unlink(names::meta(volume))?;
        }
        Ok(())
    })?;
    firm_step(ctx, UNDO_SYNC_IMAGE, || Ok(image.sync()?))?;
    if image.entries()?.is_empty() {
        firm_step(ctx, UNDO_IMAGE, || {
            Ok(domain.images.remove_dir(op.image_id.to_string())?)
        })?;
    }
    firm_step(ctx, UNDO_SYNC_IMAGES, || Ok(domain.images.sync()?))
}

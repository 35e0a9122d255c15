//! Extends the only volume of an image.
//!
//! The additional space of a preallocated volume is allocated first; then the guest's size grows, and last the
//! metadata says so. Until the note that the file is about to grow, all space can be released. From then on
//! `qemu-img` may have put its own tables into the new space, so the file is never truncated any more. The file shows
//! whether a sparse volume has grown; a preallocated volume is completed.

use std::fs::File;

use common::id::ImageId;
use common::{Allocation, ExtendVolume, Fault, FaultCode, VolumeFormat};

use super::host_op::{HostOp, RecoveryPath, Stage, Step};
use super::new_volume::{Space, check_space, largest_file};
use super::note::Lines;
use super::{Evidence, Work, alone};
use crate::domain::Domain;
use crate::file::{Dir, Identity};
use crate::in_use;
use crate::qemu_img::{Given, Limits, argv};
use crate::root::StorageRoot;
use crate::volume::{Qcow2Error, Qcow2Header, VolumeMeta, data_name, read_meta, write_meta};

type Act = Step<ExtendVolume, Extension>;

const NOTE_INTENT: Act = Act::new("note_intent", |_, work, volume| {
    work.ctx.note(&volume.note.encode(), false)
})
.only_if(is_to_grow);
const ALLOCATE: Act = Act::new("allocate", allocate).only_if(is_to_take_space);
/// A power cut after the next note must not lose the space that was allocated before it.
const SYNC_SPACE: Act = Act::new("sync_space", sync).only_if(is_to_take_space);
/// Commits: from its success on, the file is never truncated.
const NOTE_GROWTH: Act = Act::new("note_growth", note_growth).only_if(is_to_grow);
const GROW: Act = Act::new("grow", grow).only_if(is_to_grow);
const SYNC_FILE: Act = Act::new("sync_file", sync).only_if(is_to_grow);
const WRITE_META: Act = Act::new("write_meta", commit).only_if(is_to_grow);
const NOTE_DONE: Act = Act::new("note_done", |_, work, volume| {
    work.ctx.note(&volume.note.encode(), true)
})
.only_if(is_to_grow);
const UNDO_SPACE: Act = Act::new("undo_space", cut);
const UNDO_SYNC: Act = Act::new("undo_sync", sync);
/// The rename of the metadata may not be durable yet.
const FORWARD_SYNC: Act = Act::new("forward_sync", |_, _, volume| Ok(volume.image.sync()?));

impl HostOp for ExtendVolume {
    type Run = Extension;
    type Leftover = Extension;

    const STAGES: &'static [Stage<Self>] = &[
        Stage {
            steps: &[NOTE_INTENT],
            undo: &[],
        },
        Stage {
            steps: &[ALLOCATE, SYNC_SPACE],
            undo: &[UNDO_SPACE, UNDO_SYNC],
        },
        Stage {
            steps: &[NOTE_GROWTH, GROW, SYNC_FILE, WRITE_META, NOTE_DONE],
            undo: &[],
        },
    ];
    const FORWARD: &'static [Step<Self, Extension>] = &[GROW, SYNC_FILE, WRITE_META, FORWARD_SYNC, NOTE_DONE];
    const COMMIT_POINT: Option<&'static str> = Some(NOTE_GROWTH.name);
    const STARTS_PROCESSES: bool = true;

    fn begin(&self, work: Work<'_>) -> Result<Extension, Fault> {
        let domain = work.root.writable(self.volume.domain_id)?;
        let volume = open_to_extend(self, &domain)?;
        if volume.is_preallocated() && volume.growth(self) > 0 {
            check_space(&domain, volume.growth(self), "or extend it by less")?;
        }
        Ok(volume)
    }

    fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Extension>, Fault> {
        let note = Note::decode(note)?;
        let domain = work.root.writable(self.volume.domain_id)?;
        let found = Found::open(self, &domain)?;
        let identity = found.identity(self)?;
        let volume = found.with(note);
        if identity != volume.note.file || !volume.is_as_noted() && !volume.is_written(self) {
            return Err(changed(self));
        }
        Ok(match volume.is_past_return(self)? {
            true => RecoveryPath::Forward(volume),
            false => RecoveryPath::Back(volume),
        })
    }

    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault> {
        let at = self.volume;
        let domain = root.domain(at.domain_id)?;
        let Some((_, image)) = domain.find_image(at.image_id)? else {
            return Ok(Evidence::Untouched);
        };
        let file = image.file(data_name(&image, at.volume_id)?)?;
        let (Some(meta), Some(file)) = (read_meta(&image, at.volume_id)?, file) else {
            return Ok(Evidence::Untouched);
        };
        let says = u64::try_from(meta.capacity_bytes).unwrap_or(0);
        let shows = shown_bytes(self, &image, &file, &meta)?;
        Ok(if shows != says {
            let volume = at.volume_id;
            Evidence::Partial(format!(
                "volume {volume} has {shows} bytes, but its metadata says {says}"
            ))
        } else if says >= self.capacity_bytes {
            Evidence::Done
        } else {
            Evidence::Untouched
        })
    }

    fn makes_in(&self) -> Option<ImageId> {
        Some(self.volume.image_id)
    }

    fn undo_note(&self) -> &'static str {
        "releases the space that it allocated for the volume"
    }
}

/// A volume as it was before the operation.
struct Found {
    image: Dir,
    /// The name of its data.
    name: String,
    file: File,
    meta: VolumeMeta,
}

impl Found {
    fn open(op: &ExtendVolume, domain: &Domain) -> Result<Self, Fault> {
        let at = op.volume;
        let image = domain.image(at.image_id)?;
        let name = data_name(&image, at.volume_id)?;
        let file = image.file_for_writing(&name)?;
        let (Some(meta), Some(file)) = (read_meta(&image, at.volume_id)?, file) else {
            return Err(fault(
                op,
                FaultCode::VolumeNotFound,
                "no longer exists or is incomplete",
            ));
        };
        Ok(Self {
            image,
            name,
            file,
            meta,
        })
    }

    fn identity(&self, op: &ExtendVolume) -> Result<Identity, Fault> {
        Identity::of_open(&self.file).map_err(|e| unread(op, &self.image, e.into()))
    }

    fn with(self, note: Note) -> Extension {
        let Self {
            image,
            name,
            file,
            meta,
        } = self;
        Extension {
            image,
            name,
            file,
            meta,
            note,
        }
    }
}

/// A volume that is being extended.
pub(super) struct Extension {
    image: Dir,
    name: String,
    file: File,
    /// Its state when this began, or when recovery found it.
    meta: VolumeMeta,
    note: Note,
}

/// The note of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    /// The identity of the data file.
    file: Identity,
    /// The length of the file before space was allocated.
    file_bytes: u64,
    /// The capacity in the metadata before the operation.
    capacity_bytes: i64,
    generation: i64,
    /// Whether the file is about to grow, or has grown.
    growing: bool,
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        Lines::default()
            .with("file", self.file)
            .with("file_bytes", self.file_bytes)
            .with("capacity_bytes", self.capacity_bytes)
            .with("generation", self.generation)
            .with("growing", self.growing)
            .encode()
    }

    fn decode(note: &[u8]) -> Result<Self, Fault> {
        let lines = Lines::decode(note)?;
        Ok(Self {
            file: lines.need("file")?,
            file_bytes: lines.need("file_bytes")?,
            capacity_bytes: lines.need("capacity_bytes")?,
            generation: lines.need("generation")?,
            growing: lines.need("growing")?,
        })
    }
}

impl Extension {
    fn is_preallocated(&self) -> bool {
        self.meta.allocation == Allocation::Preallocated
    }

    /// The growth in bytes.
    fn growth(&self, op: &ExtendVolume) -> u64 {
        let before = u64::try_from(self.note.capacity_bytes).unwrap_or(0);
        op.capacity_bytes.saturating_sub(before)
    }

    fn is_as_noted(&self) -> bool {
        let Note {
            capacity_bytes,
            generation,
            ..
        } = self.note;
        (self.meta.capacity_bytes, self.meta.generation) == (capacity_bytes, generation)
    }

    /// Whether the metadata has the new size.
    fn is_written(&self, op: &ExtendVolume) -> bool {
        i64::try_from(op.capacity_bytes) == Ok(self.meta.capacity_bytes)
            && self.meta.generation == VolumeMeta::generation_after(self.note.generation)
    }

    /// The metadata with the new size.
    fn meta_after(&self, op: &ExtendVolume) -> Result<VolumeMeta, Fault> {
        Ok(VolumeMeta {
            capacity_bytes: i64::try_from(op.capacity_bytes)
                .map_err(|e| Fault::invalid("capacity_bytes", e))?,
            generation: VolumeMeta::generation_after(self.note.generation),
            ..self.meta.clone()
        })
    }

    /// Whether it can only be carried forward. The note may be older than what was done, where the directory of the host was put
    /// back: what a guest can have been shown already is not cut off, whatever is noted.
    fn is_past_return(&self, op: &ExtendVolume) -> Result<bool, Fault> {
        if self.is_written(op) {
            return Ok(true);
        }
        let has_grown = self.shown_bytes(op)? == op.capacity_bytes;
        Ok(match self.meta.format {
            // Its header says so only once all is in place behind it.
            VolumeFormat::Cow if has_grown => true,
            // Its length says nothing of a raw one whose space is being taken.
            VolumeFormat::Raw | VolumeFormat::Cow => {
                self.note.growing && (has_grown || self.is_preallocated())
            }
        })
    }

    fn shown_bytes(&self, op: &ExtendVolume) -> Result<u64, Fault> {
        shown_bytes(op, &self.image, &self.file, &self.meta)
    }

    fn file_bytes(&self, op: &ExtendVolume) -> Result<u64, Fault> {
        file_bytes(op, &self.image, &self.file)
    }

    /// Whether its name still leads to the file, and nobody has changed its metadata.
    fn check_unchanged(&self, op: &ExtendVolume) -> Result<(), Fault> {
        let now = read_meta(&self.image, op.volume.volume_id)?;
        if self.image.identity(&self.name)? == Some(self.note.file) && now.as_ref() == Some(&self.meta) {
            return Ok(());
        }
        Err(changed(op))
    }
}

/// The checks before anything is noted.
fn open_to_extend(op: &ExtendVolume, domain: &Domain) -> Result<Extension, Fault> {
    let at = op.volume;
    let info = domain.volume(at.image_id, at.volume_id)?;
    if let Some(fault) = info.fault {
        return Err(fault);
    }
    let found = Found::open(op, domain)?;
    alone::legal(at.volume_id, &found.meta, "extend the template itself")?;
    alone::check(&found.image, at, &found.meta, info.linked, "extended")?;
    in_use::check_writers(&found.image, at.volume_id, &found.file)?;
    let note = Note {
        file: found.identity(op)?,
        file_bytes: file_bytes(op, &found.image, &found.file)?,
        capacity_bytes: found.meta.capacity_bytes,
        generation: found.meta.generation,
        growing: false,
    };
    let volume = found.with(note);
    check_sizes(op, &volume)?;
    // Refused at the beginning if the metadata could not be written at the end.
    let meta = volume.meta_after(op)?;
    meta.encode().map_err(|e| e.fault(at.volume_id))?;
    Ok(volume)
}

/// The file has the size in the metadata, or the requested one if an earlier extension was interrupted and its task
/// forgotten.
fn check_sizes(op: &ExtendVolume, volume: &Extension) -> Result<(), Fault> {
    let (says, wanted) = (volume.meta.capacity_bytes, op.capacity_bytes);
    let Some(before) = u64::try_from(says).ok().filter(|bytes| *bytes > 0) else {
        return Err(invalid(op, &format!("has the capacity {says} in its metadata")));
    };
    if wanted < before {
        let what = format!(
            "is {wanted}; volume {} has {before} bytes and can only grow",
            op.volume.volume_id
        );
        return Err(Fault::invalid("capacity_bytes", what));
    }
    let shows = volume.shown_bytes(op)?;
    if shows == before || shows == wanted {
        return Ok(());
    }
    let what = format!("has {shows} bytes, but its metadata says {before}");
    if shows > before {
        let advice = format!(
            "{what}: an extension to {shows} bytes was interrupted; extend it to exactly that size, which completes the extension"
        );
        return Err(fault(op, FaultCode::VolumeDataInvalid, &advice));
    }
    Err(invalid(op, &what))
}

fn is_to_grow(op: &ExtendVolume, volume: &Extension) -> Result<bool, Fault> {
    Ok(volume.growth(op) > 0)
}

fn is_to_take_space(op: &ExtendVolume, volume: &Extension) -> Result<bool, Fault> {
    Ok(volume.is_preallocated() && volume.growth(op) > 0)
}

fn allocate(op: &ExtendVolume, work: Work<'_>, volume: &mut Extension) -> Result<(), Fault> {
    let growth = volume.growth(op);
    let space = match volume.meta.format {
        VolumeFormat::Raw => Space {
            start: op.capacity_bytes - growth,
            bytes: growth,
        },
        VolumeFormat::Cow => Space::behind(volume.note.file_bytes, growth),
    };
    let file = (&volume.image, volume.name.as_str(), &volume.file);
    space.take(file, work.ctx, &|done| work.ctx.progress(done, growth))
}

fn note_growth(op: &ExtendVolume, work: Work<'_>, volume: &mut Extension) -> Result<(), Fault> {
    in_use::check_writers(&volume.image, op.volume.volume_id, &volume.file)?;
    volume.check_unchanged(op)?;
    let growing = Note {
        growing: true,
        ..volume.note
    };
    work.ctx.note(&growing.encode(), volume.is_preallocated())?;
    volume.note = growing;
    Ok(())
}

/// Changes the guest's size: one change of the length of a raw file, or one of a qcow2 header, for which `qemu-img`
/// has made space before.
fn grow(op: &ExtendVolume, work: Work<'_>, volume: &mut Extension) -> Result<(), Fault> {
    let wanted = op.capacity_bytes;
    if volume.shown_bytes(op)? < wanted {
        match volume.meta.format {
            VolumeFormat::Raw => volume.image.set_len(&volume.name, &volume.file, wanted)?,
            VolumeFormat::Cow => resize(op, work, volume)?,
        }
    }
    let shows = volume.shown_bytes(op)?;
    if shows == wanted {
        return Ok(());
    }
    Err(fault(
        op,
        FaultCode::QemuImgFailed,
        &format!(
            "has {shows} bytes after it was extended, instead of {wanted}: check which qemu-img is installed, and who else writes to the storage"
        ),
    ))
}

fn resize(op: &ExtendVolume, work: Work<'_>, volume: &Extension) -> Result<(), Fault> {
    let file = Given::to_write(&volume.file)?;
    let argv = argv::resize(file.path(), op.capacity_bytes);
    let largest = largest_file(VolumeFormat::Cow, op.capacity_bytes, volume.file_bytes(op)?);
    let limits = Limits::CREATE.with_files_of(largest);
    work.qemu_img(vec![file], &argv, limits, &|_| Ok(()))?.well()?;
    Ok(())
}

fn sync(_: &ExtendVolume, _: Work<'_>, volume: &mut Extension) -> Result<(), Fault> {
    Ok(volume.image.sync_file(&volume.name, &volume.file)?)
}

/// The rename of the metadata publishes the new size. Everything before it is durable by now.
fn commit(op: &ExtendVolume, _: Work<'_>, volume: &mut Extension) -> Result<(), Fault> {
    volume.check_unchanged(op)?;
    if volume.is_written(op) {
        return Ok(());
    }
    let meta = volume.meta_after(op)?;
    write_meta(&volume.image, op.volume.volume_id, &meta)?;
    volume.meta = meta;
    Ok(())
}

/// Releases the allocated space, as long as nothing can have been written to it.
fn cut(op: &ExtendVolume, _: Work<'_>, volume: &mut Extension) -> Result<(), Fault> {
    let end = volume.note.file_bytes;
    if volume.note.growing || volume.file_bytes(op)? <= end {
        return Ok(());
    }
    Ok(volume.image.set_len(&volume.name, &volume.file, end)?)
}

/// The size that a guest sees, in bytes.
fn shown_bytes(op: &ExtendVolume, image: &Dir, file: &File, meta: &VolumeMeta) -> Result<u64, Fault> {
    if meta.format == VolumeFormat::Raw {
        return file_bytes(op, image, file);
    }
    let header = Qcow2Header::read(file).map_err(|error| match error {
        Qcow2Error::Io(e) => unread(op, image, e),
        other => invalid(op, &other.to_string()),
    })?;
    match header.trouble() {
        Some(trouble) => Err(invalid(op, trouble)),
        None => Ok(header.virtual_size_bytes),
    }
}

fn file_bytes(op: &ExtendVolume, image: &Dir, file: &File) -> Result<u64, Fault> {
    let metadata = file.metadata().map_err(|e| unread(op, image, e))?;
    Ok(metadata.len())
}

fn unread(op: &ExtendVolume, image: &Dir, error: std::io::Error) -> Fault {
    let name = op.volume.volume_id.to_string();
    image.error("look at", name.as_ref(), error).into()
}

fn invalid(op: &ExtendVolume, what: &str) -> Fault {
    let what = format!("{what}; it cannot be extended: check the file itself");
    fault(op, FaultCode::VolumeDataInvalid, &what)
}

fn changed(op: &ExtendVolume) -> Fault {
    fault(
        op,
        FaultCode::GenerationMismatch,
        "was changed by somebody else while it was being extended, and was left as it is: find out what changed it, and whether its file and its metadata agree",
    )
}

fn fault(op: &ExtendVolume, code: FaultCode, what: &str) -> Fault {
    let volume = op.volume.volume_id;
    Fault::new(code, format!("volume {volume} {what}")).about(volume)
}

//! A new volume without a parent, in an image that is absent or empty: what all verbs that make one have in
//! common. A verb says with what it is filled.
//!
//! The data is made under the task's own name, filled and synced there, and then renamed into its place; the
//! metadata comes last and says LEGAL from its first instant. That one write commits: with it there is a volume,
//! without it there is nothing but what the task can name as its own.

use std::time::{SystemTime, UNIX_EPOCH};

use common::id::VolumeId;
use common::{Allocation, Fault, FaultCode, VolumeAddress, VolumeFormat};

use super::Work;
use super::context::{firm_step, step};
use super::note::Lines;
use crate::domain::Domain;
use crate::file::{Dir, Identity};
use crate::names;
use crate::qemu_img::{Given, Limits, argv};
use crate::run_dir;
use crate::volume::{Legality, Role, VolumeMeta, write_meta};

mod allocate;
mod evidence;
mod look;
mod recover;
mod steps;

pub(super) use look::{Draft, PIECES};
pub(super) use steps::{Steps, steps_of};

/// What is to be made, but for its capacity: a copy learns that from its source.
#[derive(Clone, Copy)]
pub(super) struct NewVolume<'a> {
    /// Where.
    pub(super) at: VolumeAddress,
    /// How it keeps its data.
    pub(super) format: VolumeFormat,
    /// How it takes its space.
    pub(super) allocation: Allocation,
    /// For people.
    pub(super) description: &'a str,
    /// What its steps are called.
    pub(super) steps: &'static Steps,
}

/// What a verb does beside making the volume. Each is called once, in this order.
pub(super) trait Content {
    /// The use of the disk (VDSM's DISKTYPE). VDSM looks at it nowhere, and keeps it in copies.
    fn disk_type(&self) -> &str {
        "DATA"
    }

    /// The least that it will take on the file system, in bytes.
    fn least_bytes(&self) -> u64 {
        0
    }

    /// So many bytes of a preallocated volume have their space.
    fn allocated(&self, _done_bytes: u64, _total_bytes: u64) {}

    /// Fills the volume. It reads as zeros, has its space if it is preallocated, and was made by this very run.
    fn fill(&self, _draft: &Draft<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// Looks here and there whether the data, which is durable by now, is what was to be filled in.
    fn look(&self, _draft: &Draft<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// Looks at all of the data before it counts.
    fn verify(&self, _draft: &Draft<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// Looks right before the commit whether the data is still what was wished.
    fn confirm(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// What is noted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Note {
    /// The image's directory, and the file in it under the task's own name, as soon as both are there.
    made: Option<Made>,
    /// The data that it made; noted before it stands under the volume's name.
    file: Option<Identity>,
}

/// What is known again wherever it was moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    image: Identity,
    draft: Identity,
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        let mut lines = Lines::default();
        if let Some(Made { image, draft }) = self.made {
            lines = lines.with("image", image).with("draft", draft);
        }
        if let Some(file) = self.file {
            lines = lines.with("file", file);
        }
        lines.encode()
    }

    fn decode(note: &[u8]) -> Result<Self, Fault> {
        let lines = Lines::decode(note)?;
        let made = match (lines.get("image")?, lines.get("draft")?) {
            (Some(image), Some(draft)) => Some(Made { image, draft }),
            _ => None,
        };
        Ok(Self {
            made,
            file: lines.get("file")?,
        })
    }
}

impl NewVolume<'_> {
    /// Does it, step by step.
    pub(super) fn make(
        &self,
        work: Work<'_>,
        capacity_bytes: u64,
        content: &dyn Content,
    ) -> Result<(), Fault> {
        let Work { root, task, ctx } = work;
        let names = self.steps;
        let domain = root.writable(self.at.domain_id)?;
        let meta = self.metadata(capacity_bytes, content.disk_type())?;
        self.check(work, &domain, &meta, capacity_bytes, content)?;
        let mut note = Note::default();
        step(ctx, names.note_intent, || ctx.note(&note.encode(), false))?;
        let image = step(ctx, names.make_image, || self.make_image(&domain))?;
        step(ctx, names.sync_images, || Ok(domain.images.sync()?))?;

        let own = names::task_file(task);
        let file = step(ctx, names.create_file, || {
            image.unlink(&own)?;
            Ok(image.create_file(&own)?)
        })?;
        root.under_way().made(task, &file);
        step(ctx, names.note_draft, || {
            note.made = Some(Made {
                image: image.own_identity()?,
                draft: Identity::of_open(&file)
                    .map_err(|e| image.error("look at", own.as_ref(), e.into()))?,
            });
            ctx.note(&note.encode(), false)
        })?;
        let draft = Draft {
            image: &image,
            name: &own,
            file: &file,
            volume: self.at.volume_id,
            format: self.format,
            capacity_bytes,
        };
        let taken_bytes = self.make_data(work, &draft, content)?;
        content.fill(&draft)?;
        step(ctx, names.sync_file, || Ok(image.sync_file(&own, &file)?))?;
        step(ctx, names.look, || {
            draft.check(ctx)?;
            draft.check_space(taken_bytes)?;
            content.look(&draft)
        })?;
        content.verify(&draft)?;

        let made = draft.identity()?;
        note.file = Some(made);
        step(ctx, names.note_file, || ctx.note(&note.encode(), false))?;
        step(ctx, names.place_file, || {
            place(&image, &own, self.at.volume_id, made)
        })?;
        step(ctx, names.sync_image, || Ok(image.sync()?))?;
        content.confirm()?;

        // The point of no return: the metadata's rename. What is before it is durable by now.
        ctx.commit_point()?;
        firm_step(ctx, names.write_meta, || self.commit(&image, &meta))?;
        firm_step(ctx, names.note_done, || ctx.note(&note.encode(), true))?;
        // The run directory of a task that is done hurts nobody if it stays.
        let _ = run_dir::remove(root, task);
        Ok(())
    }

    /// Looks before anything is noted: the image must be absent, or hold nothing but what an earlier try of this
    /// very task left, of which no process works any more. A volume without a parent beside others would make no
    /// chain; and whoever undoes the whole image must not meet what it did not make.
    fn check(
        &self,
        work: Work<'_>,
        domain: &Domain,
        meta: &VolumeMeta,
        capacity_bytes: u64,
        content: &dyn Content,
    ) -> Result<(), Fault> {
        let volume = self.at.volume_id;
        if let Some((name, image)) = domain.find_image(self.at.image_id)? {
            // An image in capitals is another one for VDSM, and ours could not be told from it.
            if name != self.at.image_id.to_string() {
                return Err(exists(volume, &format!("a directory {name}")));
            }
            for entry in image.entries()? {
                if !names::is_of_task(&entry.name, work.task) {
                    return Err(exists(volume, &entry.name.to_string_lossy()));
                }
                work.no_process_left()?;
            }
        }
        meta.encode().map_err(|e| e.fault(volume))?;
        match self.allocation {
            Allocation::Preallocated => allocate::check_space(domain, capacity_bytes, "or make it sparse"),
            Allocation::Sparse => {
                allocate::check_space(domain, content.least_bytes(), "or use another domain")
            }
        }
    }

    fn make_image(&self, domain: &Domain) -> Result<Dir, Fault> {
        let image = self.at.image_id.to_string();
        match domain.images.dir(&image)? {
            Some(image) => Ok(image),
            None => Ok(domain.images.create_dir(image)?),
        }
    }

    /// An empty volume, with its space if it is to have it; returns how much that is, in bytes.
    fn make_data(&self, work: Work<'_>, draft: &Draft<'_>, content: &dyn Content) -> Result<u64, Fault> {
        let capacity_bytes = draft.capacity_bytes;
        step(work.ctx, self.steps.qemu_img, || {
            let file = Given::to_write(draft.file)?;
            let argv = argv::create(self.format, file.path(), capacity_bytes);
            let limits =
                Limits::CREATE.with_files_of(largest_file(self.format, capacity_bytes, capacity_bytes));
            let ended = work.qemu_img(vec![file], &argv, limits, &|_| Ok(()))?;
            ended.well()?;
            draft.check_empty(work.ctx)
        })?;
        step(work.ctx, self.steps.allocate, || match self.allocation {
            Allocation::Sparse => Ok(0),
            Allocation::Preallocated => {
                let space = allocate::Space {
                    format: self.format,
                    capacity_bytes,
                };
                let file = (draft.image, draft.name, draft.file);
                space.take(file, work.ctx, &|done| {
                    content.allocated(done, capacity_bytes);
                })?;
                draft.taken_bytes()
            }
        })
    }

    fn commit(&self, image: &Dir, meta: &VolumeMeta) -> Result<(), Fault> {
        let volume = self.at.volume_id;
        let name = names::meta(volume);
        if let Some(found) = image.kind(&name)? {
            return Err(exists(volume, &format!("{name} ({found:?})")));
        }
        write_meta(image, volume, meta)
    }

    fn metadata(&self, capacity_bytes: u64, disk_type: &str) -> Result<VolumeMeta, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(VolumeMeta {
            capacity_bytes: i64::try_from(capacity_bytes).map_err(|e| Fault::invalid("capacity_bytes", e))?,
            created_s: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            description: self.description.to_owned(),
            disk_type: disk_type.to_owned(),
            domain: self.at.domain_id,
            format: self.format,
            generation: 0,
            image: self.at.image_id,
            legality: Legality::Legal,
            parent: None,
            sequence: 0,
            allocation: self.allocation,
            role: Role::Leaf,
        })
    }

    /// Whether metadata is that which commits it.
    fn is_committed(&self, meta: &VolumeMeta) -> bool {
        meta.legality == Legality::Legal
            && meta.domain == self.at.domain_id
            && meta.image == self.at.image_id
            && meta.format == self.format
    }
}

/// Beside the tables of its data, a qcow2 file has a header, a first table and a few clusters of counts.
const COW_LEAST_BYTES: u64 = 16 << 20;

/// Tables and counts take 10 bytes for each cluster of 64 KiB; the file system's pieces are rounded up.
const COW_PART: u64 = 1024;

/// The largest file that a volume of this capacity can be with so much data in it: what fills it writes no more.
pub(super) fn largest_file(format: VolumeFormat, capacity_bytes: u64, data_bytes: u64) -> u64 {
    match format {
        // Its end is where its guest's is, however little it holds.
        VolumeFormat::Raw => capacity_bytes,
        VolumeFormat::Cow => data_bytes
            .saturating_add(capacity_bytes / COW_PART)
            .saturating_add(COW_LEAST_BYTES),
    }
}

fn exists(volume: VolumeId, name: &str) -> Fault {
    Fault::new(
        FaultCode::VolumeExists,
        format!(
            "volume {volume} cannot be made: its image holds {name} already; choose another id, or delete the image"
        ),
    )
    .about(volume)
}

/// Puts the file into its place, and sees that it is the one that was looked at and noted.
fn place(image: &Dir, own: &str, volume: VolumeId, made: Identity) -> Result<(), Fault> {
    let name = volume.to_string();
    match image.rename_new(own, &name) {
        Err(e) if e.is_taken() => return Err(exists(volume, &name)),
        done => done?,
    }
    if image.identity(&name)? == Some(made) {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::UnexpectedFile,
        format!("another file took the place of volume {volume} while it was made; see who else writes to the storage"),
    )
    .about(volume))
}

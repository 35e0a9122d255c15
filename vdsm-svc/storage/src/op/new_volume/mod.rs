//! A new volume without a parent, in an image that does not exist or is empty: what all verbs that create one have in
//! common. A verb lists the steps in its own table, and adds those that fill the volume.
//!
//! The data file is created with the task's own name (the staged volume), filled and synced, and then renamed into
//! place; the metadata comes last and says LEGAL from the start. That write commits: with it the volume exists, and
//! without it there are only files that the task recognizes as its own.

use std::fs::File;
use std::time::{SystemTime, UNIX_EPOCH};

use common::id::VolumeId;
use common::{Allocation, Fault, FaultCode, VolumeAddress, VolumeFormat};

use super::Work;
use super::host_op::{HostOp, made};
use super::note::Lines;
use crate::domain::{Domain, WritableDomain};
use crate::file::{Dir, Identity};
use crate::names;
use crate::volume::{Legality, Role, VolumeMeta};

mod allocate;
mod evidence;
mod look;
mod marks;
mod recover;
mod steps;

use marks::Marks;

pub(super) use allocate::{Space, check_space};
pub(super) use look::{PIECES, StagedVolume};
pub(super) use recover::Leftover;
pub(super) use steps::{Steps, largest_file};

/// An operation that creates a new volume.
pub(super) trait MakesVolume:
    HostOp<Run = Making<<Self as MakesVolume>::Filling>, Leftover = Leftover>
{
    /// What it knows besides the volume while it runs: the source of the data.
    type Filling: 'static;

    /// What is to be made.
    fn spec(&self) -> VolumeSpec<'_>;

    /// Reports how many bytes of a preallocated volume are allocated.
    fn allocated(&self, work: Work<'_>, done_bytes: u64, total_bytes: u64);

    /// Checks samples of the data, which is durable by now.
    fn look(&self, making: &Making<Self::Filling>) -> Result<(), Fault>;
}

/// The new volume, as the operation specifies it.
#[derive(Clone, Copy)]
pub(super) struct VolumeSpec<'a> {
    /// The address of the new volume.
    pub(super) at: VolumeAddress,
    /// How it keeps its data.
    pub(super) format: VolumeFormat,
    /// How it takes its space.
    pub(super) allocation: Allocation,
    /// For people.
    pub(super) description: &'a str,
}

/// What else must be known before it begins; a copy learns it from its source.
#[derive(Clone, Copy)]
pub(super) struct Contents<'a> {
    /// The size that a guest will see.
    pub(super) capacity_bytes: u64,
    /// The use of the disk (VDSM's DISKTYPE). VDSM never uses it, and keeps it in copies.
    pub(super) disk_type: &'a str,
    /// The minimum that a sparse volume will take on the file system, in bytes.
    pub(super) least_bytes: u64,
}

/// A new volume that is being created.
pub(super) struct Making<F> {
    domain: WritableDomain,
    at: VolumeAddress,
    meta: VolumeMeta,
    capacity_bytes: u64,
    /// The name of the data file until it is renamed into place: the task's own.
    own: String,
    note: Note,
    image: Option<Dir>,
    /// The data file, open since before anything was written to it.
    file: Option<File>,
    /// The state of the file when it was created.
    marks: Option<Marks>,
    /// The space that a preallocated volume took before it was filled.
    taken_bytes: u64,
    /// What the operation adds.
    pub(super) filling: F,
}

impl<F> Making<F> {
    fn image(&self) -> Result<&Dir, Fault> {
        made(self.image.as_ref(), "an image")
    }

    /// The staged volume. It reads as zeros until it is filled, has its space if it is preallocated, and was created
    /// by this run.
    ///
    /// # Errors
    /// `INTERNAL` before it was created.
    pub(super) fn staged(&self) -> Result<StagedVolume<'_>, Fault> {
        Ok(StagedVolume {
            image: self.image()?,
            name: &self.own,
            file: made(self.file.as_ref(), "a file")?,
            marks: made(self.marks.as_ref(), "a file")?,
            volume: self.at.volume_id,
            format: self.meta.format,
            capacity_bytes: self.capacity_bytes,
        })
    }
}

/// The note of the operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Note {
    /// The image's directory and the staged volume in it, once both exist.
    made: Option<Made>,
    /// The data that it created; noted before it gets the volume's name.
    file: Option<Identity>,
}

/// The identities of what was created, valid wherever it is moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    image: Identity,
    staged: Identity,
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        let mut lines = Lines::default();
        if let Some(Made { image, staged }) = self.made {
            lines = lines.with("image", image).with("draft", staged);
        }
        if let Some(file) = self.file {
            lines = lines.with("file", file);
        }
        lines.encode()
    }

    fn decode(note: &[u8]) -> Result<Self, Fault> {
        let lines = Lines::decode(note)?;
        let made = match (lines.get("image")?, lines.get("draft")?) {
            (Some(image), Some(staged)) => Some(Made { image, staged }),
            _ => None,
        };
        Ok(Self {
            made,
            file: lines.get("file")?,
        })
    }
}

impl VolumeSpec<'_> {
    /// The checks before anything is noted.
    ///
    /// # Errors
    /// Why it cannot be created.
    pub(super) fn begin<F>(
        &self,
        work: Work<'_>,
        contents: Contents<'_>,
        filling: F,
    ) -> Result<Making<F>, Fault> {
        let domain = work.root.writable(self.at.domain_id)?;
        let meta = self.metadata(contents)?;
        self.check(work, &domain, &meta, contents)?;
        Ok(Making {
            domain,
            at: self.at,
            meta,
            capacity_bytes: contents.capacity_bytes,
            own: names::task_file(work.task),
            note: Note::default(),
            image: None,
            file: None,
            marks: None,
            taken_bytes: 0,
            filling,
        })
    }

    /// The image must not exist, or have nothing but the remains of an earlier attempt of this task, of which no
    /// process runs any more. A volume without a parent next to others would not be in their chain; and an undo of
    /// the whole image must not find anything that the task did not create.
    fn check(
        &self,
        work: Work<'_>,
        domain: &Domain,
        meta: &VolumeMeta,
        contents: Contents<'_>,
    ) -> Result<(), Fault> {
        let volume = self.at.volume_id;
        if let Some((name, image)) = domain.find_image(self.at.image_id)? {
            // For VDSM an image in capitals is another image, and ours could not be distinguished from it.
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
            Allocation::Preallocated => check_space(domain, contents.capacity_bytes, "or make it sparse"),
            Allocation::Sparse => check_space(domain, contents.least_bytes, "or use another domain"),
        }
    }

    fn metadata(&self, contents: Contents<'_>) -> Result<VolumeMeta, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let bytes = contents.capacity_bytes;
        Ok(VolumeMeta {
            capacity_bytes: i64::try_from(bytes).map_err(|e| Fault::invalid("capacity_bytes", e))?,
            created_s: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            description: self.description.to_owned(),
            disk_type: contents.disk_type.to_owned(),
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

    /// Whether the metadata is the one that commits it.
    fn is_committed(&self, meta: &VolumeMeta) -> bool {
        meta.legality == Legality::Legal
            && meta.domain == self.at.domain_id
            && meta.image == self.at.image_id
            && meta.format == self.format
    }
}

fn exists(volume: VolumeId, name: &str) -> Fault {
    Fault::new(
        FaultCode::VolumeExists,
        format!(
            "volume {volume} cannot be created: its image already has {name}; choose another id, or delete the image"
        ),
    )
    .about(volume)
}

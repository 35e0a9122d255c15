//! Recovery of a new volume whose creation failed, was aborted, or was interrupted by a restart.

use common::{Fault, FaultCode, VolumeAddress};

use super::super::Work;
use super::super::host_op::{RecoveryPath, made};
use super::{Note, VolumeSpec};
use crate::domain::WritableDomain;
use crate::file::{Dir, Identity};
use crate::names;
use crate::volume::{Legality, VolumeMeta, read_meta};

/// Whose data has the volume's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Ours,
    Other,
}

impl Owner {
    fn of(placed: Option<Identity>, noted: Option<Identity>) -> Self {
        match placed {
            None => Self::Nobody,
            Some(_) if placed == noted => Self::Ours,
            Some(_) => Self::Other,
        }
    }
}

/// What recovery found of a new volume.
pub(in crate::op) struct Leftover {
    domain: WritableDomain,
    image: Option<Dir>,
    note: Note,
    /// Whose data has the volume's name.
    owner: Owner,
}

impl Leftover {
    pub(super) fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// Whether the image exists and is empty.
    pub(super) fn is_empty(&self) -> Result<bool, Fault> {
        match &self.image {
            Some(image) => Ok(image.entries()?.is_empty()),
            None => Ok(false),
        }
    }

    /// From here on, missing files may have been removed by the undo.
    pub(super) fn note_undoing(&self, work: Work<'_>) -> Result<(), Fault> {
        let undoing = Note {
            made: None,
            ..self.note
        };
        work.ctx.note(&undoing.encode(), false)
    }

    pub(super) fn remove_file(&self, work: Work<'_>, at: VolumeAddress) -> Result<(), Fault> {
        let image = self.image()?;
        for entry in image.entries()? {
            if names::is_of_task(&entry.name, work.task) {
                image.unlink(&entry.name)?;
            }
        }
        if self.owner == Owner::Ours {
            image.unlink(at.volume_id.to_string())?;
        }
        Ok(())
    }

    /// Metadata is written only after the data was noted; its absence was checked before anything was done.
    pub(super) fn remove_meta(&self, at: VolumeAddress) -> Result<(), Fault> {
        let image = self.image()?;
        if self.note.file.is_some() && self.owner != Owner::Other {
            image.unlink(names::meta_new(at.volume_id))?;
            image.unlink(names::meta(at.volume_id))?;
        }
        Ok(())
    }

    pub(super) fn sync_image(&self) -> Result<(), Fault> {
        Ok(self.image()?.sync()?)
    }

    pub(super) fn remove_image(&self, at: VolumeAddress) -> Result<(), Fault> {
        Ok(self.domain.images.remove_dir(at.image_id.to_string())?)
    }

    pub(super) fn sync_images(&self) -> Result<(), Fault> {
        Ok(self.domain.images.sync()?)
    }

    fn image(&self) -> Result<&Dir, Fault> {
        made(self.image.as_ref(), "an image")
    }
}

impl VolumeSpec<'_> {
    /// Determines by the note and by storage what is left of it, and whether to undo or complete it.
    pub(in crate::op) fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Leftover>, Fault> {
        let note = Note::decode(note)?;
        let domain = work.root.writable(self.at.domain_id)?;
        let image = domain.images.dir(self.at.image_id.to_string())?;
        self.check_not_moved(work, image.as_ref(), &note)?;
        let mut left = Leftover {
            domain,
            image,
            note,
            owner: Owner::Nobody,
        };
        let Some(image) = &left.image else {
            return Ok(RecoveryPath::Back(left));
        };
        left.owner = Owner::of(image.identity(self.at.volume_id.to_string())?, left.note.file);
        let meta = read_meta(image, self.at.volume_id)?;
        Ok(match self.is_done(left.owner, meta, &left.note)? {
            true => RecoveryPath::Forward(left),
            false => RecoveryPath::Back(left),
        })
    }

    /// Whether storage shows that it is committed.
    ///
    /// # Errors
    /// `GENERATION_MISMATCH` for a state that this operation does not create: it is left as it is.
    fn is_done(&self, owner: Owner, meta: Option<VolumeMeta>, note: &Note) -> Result<bool, Fault> {
        let Some(meta) = meta else {
            return Ok(false);
        };
        let illegal = meta.legality == Legality::Illegal && meta.generation == 0;
        match owner {
            Owner::Ours if self.is_committed(&meta) => Ok(true),
            Owner::Ours if illegal => Ok(false),
            // An undo was interrupted after it had unlinked the data.
            Owner::Nobody if illegal => Ok(false),
            // Another volume took the name before ours was in place: only our own files are undone.
            Owner::Other => Ok(false),
            Owner::Nobody if note.file.is_none() => Ok(false),
            Owner::Ours | Owner::Nobody => Err(self.changed(&meta)),
        }
    }

    /// What was begun must be where it was begun: what was moved away cannot be undone, and still exists.
    ///
    /// # Errors
    /// `STORAGE_REPLACED` naming what is left.
    fn check_not_moved(&self, work: Work<'_>, image: Option<&Dir>, note: &Note) -> Result<(), Fault> {
        let Some(made) = note.made else {
            return Ok(());
        };
        let (image_id, task) = (self.at.image_id, work.task);
        let moved = |what: &str| {
            Fault::new(
                FaultCode::StorageReplaced,
                format!(
                    "{what} of image {image_id} is not where task {task} created it: somebody moved, replaced or removed it meanwhile. Nothing was touched; look for a directory with a file .vdsm-svc-{task} or {}, delete what is not needed, then delete image {image_id} if it exists",
                    self.at.volume_id
                ),
            )
            .about(image_id)
        };
        let Some(image) = image else {
            return Err(moved("the directory"));
        };
        if image.own_identity()? != made.image {
            return Err(moved("the directory"));
        }
        // After a restart this is unknown: the name becomes durable with the volume's, so a power cut may have lost it.
        if !work.root.under_way().made_is_somewhere(task) {
            return Ok(());
        }
        for entry in image.entries()? {
            if image.identity(&entry.name)? == Some(made.staged) {
                return Ok(());
            }
        }
        Err(moved("the data"))
    }

    fn changed(&self, meta: &VolumeMeta) -> Fault {
        let volume = self.at.volume_id;
        Fault::new(
            FaultCode::GenerationMismatch,
            format!(
                "volume {volume} is {} with generation {}, which this task did not write; it was not touched: check image {}",
                meta.legality.as_str(),
                meta.generation,
                self.at.image_id
            ),
        )
        .about(volume)
    }
}

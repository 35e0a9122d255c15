//! What becomes of a new volume that failed, was aborted, or was cut off by a restart.

use common::{Fault, FaultCode};

use super::super::context::firm_step;
use super::super::{OpEnd, Work};
use super::{NewVolume, Note};
use crate::domain::Domain;
use crate::file::{Dir, Identity};
use crate::names;
use crate::volume::{Legality, VolumeMeta, read_meta};

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

impl NewVolume<'_> {
    /// Concludes from the note and from storage.
    pub(in crate::op) fn recover(
        &self,
        work: Work<'_>,
        note: Option<&[u8]>,
        cause: Fault,
    ) -> Result<OpEnd, Fault> {
        // Without a note nothing was begun.
        let Some(note) = note.map(Note::decode).transpose()? else {
            return Ok(OpEnd::Undone(cause));
        };
        let domain = work.root.writable(self.at.domain_id)?;
        let found = domain.images.dir(self.at.image_id.to_string())?;
        self.check_not_moved(work, found.as_ref(), &note)?;
        let Some(image) = found else {
            firm_step(work.ctx, self.steps.undo_sync_images, || {
                Ok(domain.images.sync()?)
            })?;
            return Ok(OpEnd::Undone(cause));
        };
        let owner = Owner::of(image.identity(self.at.volume_id.to_string())?, note.file);
        match self.verdict(owner, read_meta(&image, self.at.volume_id)?, &note)? {
            Verdict::Forward => {
                firm_step(work.ctx, self.steps.forward_sync, || {
                    image.sync()?;
                    Ok(domain.images.sync()?)
                })?;
                Ok(OpEnd::Finished)
            }
            Verdict::Undo => {
                self.undo(work, &domain, &image, &note, owner)?;
                Ok(OpEnd::Undone(cause))
            }
        }
    }

    /// What storage says of the commit.
    ///
    /// # Errors
    /// `GENERATION_MISMATCH` for a state that this operation does not make: it is left as it is.
    fn verdict(&self, owner: Owner, meta: Option<VolumeMeta>, note: &Note) -> Result<Verdict, Fault> {
        let Some(meta) = meta else {
            return Ok(Verdict::Undo);
        };
        let illegal = meta.legality == Legality::Illegal && meta.generation == 0;
        match owner {
            Owner::Ours if self.is_committed(&meta) => Ok(Verdict::Forward),
            Owner::Ours if illegal => Ok(Verdict::Undo),
            // An undo that was cut off after it had unlinked the data.
            Owner::Nobody if illegal => Ok(Verdict::Undo),
            // Another volume took the name before ours was in place: only what is ours is undone.
            Owner::Stranger => Ok(Verdict::Undo),
            Owner::Nobody if note.file.is_none() => Ok(Verdict::Undo),
            Owner::Ours | Owner::Nobody => Err(self.changed(&meta)),
        }
    }

    /// What was begun must lie where it was begun: what was moved away cannot be undone, and is not gone.
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
                    "{what} of image {image_id} is not where task {task} made it: somebody moved, replaced or removed it meanwhile. Nothing was touched; look for a directory with a file .vdsm-svc-{task} or {}, delete what is not wanted, then delete image {image_id} if it is there",
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
        // A start cannot tell: the name becomes durable with the volume's, so a power cut may have taken it.
        if !work.root.under_way().made_is_somewhere(task) {
            return Ok(());
        }
        for entry in image.entries()? {
            if image.identity(&entry.name)? == Some(made.draft) {
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
                "volume {volume} is {} with generation {}, which this task did not write; it was not touched: look at image {}",
                meta.legality.as_str(),
                meta.generation,
                self.at.image_id
            ),
        )
        .about(volume)
    }

    /// The way back, in reverse. Each step finds its work done if it was done before.
    fn undo(
        &self,
        work: Work<'_>,
        domain: &Domain,
        image: &Dir,
        note: &Note,
        owner: Owner,
    ) -> Result<(), Fault> {
        let (ctx, names, volume) = (work.ctx, self.steps, self.at.volume_id);
        // From here on what was made may be missing because it was undone.
        let undoing = Note { made: None, ..*note };
        firm_step(ctx, names.undo_note, || ctx.note(&undoing.encode(), false))?;
        firm_step(ctx, names.undo_file, || {
            for entry in image.entries()? {
                if names::is_of_task(&entry.name, work.task) {
                    image.unlink(&entry.name)?;
                }
            }
            if owner == Owner::Ours {
                image.unlink(volume.to_string())?;
            }
            Ok(())
        })?;
        firm_step(ctx, names.undo_meta, || {
            // Metadata is written only after the data was noted; that there was none was seen before anything was.
            if note.file.is_some() && owner != Owner::Stranger {
                image.unlink(names::meta_new(volume))?;
                image.unlink(names::meta(volume))?;
            }
            Ok(())
        })?;
        firm_step(ctx, names.undo_sync_image, || Ok(image.sync()?))?;
        if image.entries()?.is_empty() {
            firm_step(ctx, names.undo_image, || {
                Ok(domain.images.remove_dir(self.at.image_id.to_string())?)
            })?;
        }
        firm_step(ctx, names.undo_sync_images, || Ok(domain.images.sync()?))
    }
}

//! Deletes an image with all its volumes.
//!
//! The image's directory is renamed aside whole, which commits; then it is purged, data first and metadata last,
//! so that what is left of a deletion that fails can still be told for what it is. An image that was set aside
//! before and not purged (by us or by VDSM) is carried on with.

use common::id::ImageId;
use common::{DeleteImage, Fault, FaultCode};

use super::context::{firm_step, step, stop_if_aborted};
use super::note::Lines;
use super::{Evidence, OpContext, OpEnd, Work};
use crate::domain::{Domain, ImageName};
use crate::file::{Dir, Entry, Identity};
use crate::in_use;
use crate::names::{self, ImageFile};
use crate::root::StorageRoot;

mod check;

const NOTE_INTENT: &str = "delete_image.note_intent";
const CHECK_USE: &str = "delete_image.check_use";
const SET_ASIDE: &str = "delete_image.set_aside";
const SYNC_IMAGES: &str = "delete_image.sync_images";
const NOTE_ASIDE: &str = "delete_image.note_aside";
const UNLINK_DATA: &str = "delete_image.unlink_data";
const UNLINK_LEASES: &str = "delete_image.unlink_leases";
const UNLINK_META: &str = "delete_image.unlink_meta";
const REMOVE_DIR: &str = "delete_image.remove_dir";
const SYNC_PURGED: &str = "delete_image.sync_purged";
const NOTE_DONE: &str = "delete_image.note_done";
const UNDO_SYNC: &str = "delete_image.undo_sync";
const FORWARD_SYNC: &str = "delete_image.forward_sync";

/// The steps in their order; then those of the undo, and of carrying it forward.
pub(super) const STEPS: &[&str] = &[
    NOTE_INTENT,
    CHECK_USE,
    SET_ASIDE,
    SYNC_IMAGES,
    NOTE_ASIDE,
    UNLINK_DATA,
    UNLINK_LEASES,
    UNLINK_META,
    REMOVE_DIR,
    SYNC_PURGED,
    NOTE_DONE,
    UNDO_SYNC,
    FORWARD_SYNC,
];

/// Files that are listed at a time.
const AT_ONCE: usize = 1_024;

/// What is noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    /// The name that it is set aside under.
    aside: String,
    /// The image's directory, whatever its name: one made again under the image's id is another.
    image: Identity,
    /// Whether it was aside already when the operation began.
    was_aside: bool,
    /// Whether it is durably aside.
    is_aside: bool,
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        Lines::default()
            .with("aside", &self.aside)
            .with("image", self.image)
            .with("was_aside", self.was_aside)
            .with("is_aside", self.is_aside)
            .encode()
    }

    fn decode(note: &[u8]) -> Result<Self, Fault> {
        let lines = Lines::decode(note)?;
        Ok(Self {
            aside: lines.need("aside")?,
            image: lines.need("image")?,
            was_aside: lines.need("was_aside")?,
            is_aside: lines.need("is_aside")?,
        })
    }
}

/// Does it, step by step.
pub(super) fn run(work: Work<'_>, op: &DeleteImage) -> Result<(), Fault> {
    let Work { root, ctx, .. } = work;
    let domain = root.writable(op.domain_id)?;
    let (dir, name, note) = check(&domain, op, ctx)?;
    step(ctx, NOTE_INTENT, || ctx.note(&note.encode(), false))?;
    step(ctx, CHECK_USE, || {
        in_use::check_all(&dir, &|| stop_if_aborted(ctx))
    })?;
    ctx.commit_point()?;
    // The point of no return, once the sync has made it durable.
    firm_step(ctx, SET_ASIDE, || {
        if note.was_aside {
            return Ok(());
        }
        Ok(domain.images.rename_new(&name, &note.aside)?)
    })?;
    firm_step(ctx, SYNC_IMAGES, || Ok(domain.images.sync()?))?;
    carry_on(work, &domain, op, note)
}

/// Looks before anything is noted: the image's directory, its name, and what is to be noted.
fn check(domain: &Domain, op: &DeleteImage, ctx: &dyn OpContext) -> Result<(Dir, String, Note), Fault> {
    let heard = || stop_if_aborted(ctx);
    let (dir, name, aside, was_aside) = match domain.find_image(op.image_id)? {
        Some((name, dir)) => (dir, name, check::free_name(domain, op.image_id)?, false),
        None => {
            let (dir, aside) = leftover(domain, op.image_id)?.ok_or_else(|| not_found(op))?;
            (dir, aside.clone(), aside, true)
        }
    };
    check::contents(&dir, &heard)?;
    if !was_aside {
        check::not_shared(domain, op.image_id, &dir, &heard)?;
    }
    in_use::check_all(&dir, &heard)?;
    let identity = domain.images.identity(&name)?.ok_or_else(|| not_found(op))?;
    let note = Note {
        aside,
        image: identity,
        was_aside,
        is_aside: false,
    };
    Ok((dir, name, note))
}

/// What an earlier deletion of the image left.
pub(super) fn leftover(domain: &Domain, of: ImageId) -> Result<Option<(Dir, String)>, Fault> {
    for found in domain.image_names()? {
        if let ImageName::Leftover { name, image } = found
            && image == of
            && let Some(dir) = domain.images.dir(&name)?
        {
            return Ok(Some((dir, name)));
        }
    }
    Ok(None)
}

fn not_found(op: &DeleteImage) -> Fault {
    Fault::new(
        FaultCode::ImageNotFound,
        format!(
            "there is no image {} in domain {}, and nothing is left of one; it may be deleted already",
            op.image_id, op.domain_id
        ),
    )
    .about(op.image_id)
}

/// From the moment it is durably aside: notes that, and purges it. May be begun again at any place.
fn carry_on(work: Work<'_>, domain: &Domain, op: &DeleteImage, mut note: Note) -> Result<(), Fault> {
    let Work { root, task, ctx } = work;
    note.is_aside = true;
    firm_step(ctx, NOTE_ASIDE, || ctx.note(&note.encode(), true))?;
    let here = domain.images.identity(&note.aside)? == Some(note.image);
    match domain.images.dir(&note.aside)?.filter(|_| here) {
        Some(dir) => purge(domain, &dir, &note, ctx, &|| root.under_way().removes(task))?,
        None if root.under_way().may_have_removed(task) => {}
        None => return Err(moved_away(op, &note)),
    }
    firm_step(ctx, SYNC_PURGED, || Ok(domain.images.sync()?))?;
    firm_step(ctx, NOTE_DONE, || ctx.note(&note.encode(), true))
}

fn moved_away(op: &DeleteImage, note: &Note) -> Fault {
    let (image, aside) = (op.image_id, &note.aside);
    Fault::new(
        FaultCode::StorageReplaced,
        format!(
            "image {image} was set aside as {aside} to be deleted, and no longer stands there: somebody moved, replaced or removed it before it was purged. Look for its volumes elsewhere in the domain, and delete them"
        ),
    )
    .about(image)
}

/// Unlinks data, then leases, then metadata; only what is not there is passed over.
fn purge(
    domain: &Domain,
    dir: &Dir,
    note: &Note,
    ctx: &dyn OpContext,
    removes: &dyn Fn(),
) -> Result<(), Fault> {
    firm_step(ctx, UNLINK_DATA, || {
        unlink(dir, |f| matches!(f, ImageFile::Data(_) | ImageFile::OfTask(_)))
    })?;
    firm_step(ctx, UNLINK_LEASES, || {
        unlink(dir, |f| matches!(f, ImageFile::Lease(_)))
    })?;
    firm_step(ctx, UNLINK_META, || {
        unlink(dir, |f| matches!(f, ImageFile::Meta(_) | ImageFile::MetaNew(_)))
    })?;
    // What came in after the check is not ours: it is named, and kept.
    check::nothing_left(dir)?;
    removes();
    firm_step(ctx, REMOVE_DIR, || Ok(domain.images.remove_dir(&note.aside)?))
}

fn unlink(dir: &Dir, which: impl Fn(ImageFile) -> bool) -> Result<(), Fault> {
    let is_one = |entry: &Entry| ImageFile::parse(&entry.name).is_some_and(&which);
    loop {
        let some = dir.some_entries(AT_ONCE, &is_one)?;
        if some.is_empty() {
            return Ok(());
        }
        for entry in some {
            dir.unlink(&entry.name)?;
        }
    }
}

/// Concludes from the note and from storage.
pub(super) fn recover(
    work: Work<'_>,
    op: &DeleteImage,
    note: Option<&[u8]>,
    cause: Fault,
) -> Result<OpEnd, Fault> {
    let Work { root, ctx, .. } = work;
    // Without a note nothing was begun; and of what was aside before, nothing is unlinked before the second.
    let Some(note) = note.map(Note::decode).transpose()? else {
        return Ok(OpEnd::Undone(cause));
    };
    if note.was_aside && !note.is_aside {
        return Ok(OpEnd::Undone(cause));
    }
    let domain = root.writable(op.domain_id)?;
    let mut in_place = false;
    for name in names::spellings(op.image_id) {
        in_place |= domain.images.identity(name)? == Some(note.image);
    }
    match (in_place, note.is_aside) {
        (true, false) => {
            firm_step(ctx, UNDO_SYNC, || Ok(domain.images.sync()?))?;
            Ok(OpEnd::Undone(cause))
        }
        (true, true) => Err(came_back(op, &note)),
        // Aside, or purged already; where an image stands under the id again, it is another one, and stays.
        (false, _) => {
            firm_step(ctx, FORWARD_SYNC, || Ok(domain.images.sync()?))?;
            carry_on(work, &domain, op, note)?;
            Ok(OpEnd::Finished)
        }
    }
}

fn came_back(op: &DeleteImage, note: &Note) -> Fault {
    Fault::new(
        FaultCode::UnexpectedFile,
        format!(
            "image {} was set aside as {} to be deleted, and somebody put it back, perhaps in parts; it was not touched: look at it, then delete it again",
            op.image_id, note.aside
        ),
    )
    .about(op.image_id)
}

/// What storage alone shows.
pub(super) fn evidence(root: &StorageRoot, op: &DeleteImage) -> Result<Evidence, Fault> {
    let domain = root.domain(op.domain_id)?;
    for name in names::spellings(op.image_id) {
        if domain.images.kind(name)?.is_some() {
            return Ok(Evidence::Untouched);
        }
    }
    Ok(match leftover(&domain, op.image_id)? {
        Some((_, name)) => Evidence::Partial(format!(
            "image {} is set aside as {name}, not purged",
            op.image_id
        )),
        None => Evidence::ImageAbsent,
    })
}

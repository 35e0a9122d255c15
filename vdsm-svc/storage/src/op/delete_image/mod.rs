//! Deletes an image with all its volumes.
//!
//! Renaming the image's directory commits the deletion; then the directory is purged, data first and metadata last,
//! so that the remains of a failed deletion can still be identified. Directories of the same image that were renamed
//! before and not purged (by us or by VDSM) are purged too: instead of the image, or after it.

use common::id::ImageId;
use common::{DeleteImage, Fault, FaultCode};

use super::context::stop_if_aborted;
use super::host_op::{HostOp, RecoveryPath, Stage, Step, made};
use super::note::Lines;
use super::{Evidence, Work};
use crate::domain::{Domain, WritableDomain};
use crate::file::{Dir, Entry, Identity};
use crate::in_use;
use crate::names::{self, ImageFile};
use crate::root::StorageRoot;

mod check;

type Act = Step<DeleteImage, Deletion>;

const NOTE_INTENT: Act = Act::new("note_intent", |_, work, deletion| {
    work.ctx.note(&deletion.note.encode(), false)
});
const CHECK_USE: Act = Act::new("check_use", |op, work, deletion| {
    let dir = made(deletion.dir.as_ref(), "an image")?;
    let check_abort = || stop_if_aborted(work.ctx);
    in_use::check_all(dir, &check_abort)?;
    each_leftover(&deletion.domain, op.image_id, &|_, dir| {
        in_use::check_all(dir, &check_abort)
    })
});
/// The point of no return, once the sync has made it durable.
const SET_ASIDE: Act = Act::new("set_aside", set_aside);
const SYNC_IMAGES: Act = Act::new("sync_images", sync_images);
const NOTE_ASIDE: Act = Act::new("note_aside", note_aside);
const UNLINK_DATA: Act = Act::new("unlink_data", |op, _, deletion| {
    deletion.still_aside(op)?;
    unlink(deletion.aside()?, is_data)
})
.only_if(is_there);
const UNLINK_LEASES: Act = Act::new("unlink_leases", |_, _, deletion| {
    unlink(deletion.aside()?, is_lease)
})
.only_if(is_there);
const UNLINK_META: Act =
    Act::new("unlink_meta", |_, _, deletion| unlink(deletion.aside()?, is_meta)).only_if(is_there);
const REMOVE_DIR: Act = Act::new("remove_dir", remove_dir).only_if(is_there);
/// The leftovers of earlier deletions of the image.
const PURGE_LEFTOVERS: Act = Act::new("purge_leftovers", |op, _, deletion| {
    each_leftover(&deletion.domain, op.image_id, &|name, dir| {
        for which in IN_ORDER {
            unlink(dir, which)?;
        }
        check::nothing_left(dir)?;
        Ok(deletion.domain.images.remove_dir(name)?)
    })
});
const SYNC_PURGED: Act = Act::new("sync_purged", sync_images);
const NOTE_DONE: Act = Act::new("note_done", |_, work, deletion| {
    work.ctx.note(&deletion.note.encode(), true)
});
/// The image keeps its name.
const UNDO_SYNC: Act = Act::new("undo_sync", sync_images);
const FORWARD_SYNC: Act = Act::new("forward_sync", sync_images);

impl HostOp for DeleteImage {
    type Run = Deletion;
    type Leftover = Deletion;

    const STAGES: &'static [Stage<Self>] = &[
        Stage {
            steps: &[NOTE_INTENT, CHECK_USE],
            undo: &[],
        },
        Stage {
            steps: &[SET_ASIDE, SYNC_IMAGES],
            undo: &[UNDO_SYNC],
        },
        Stage {
            steps: &[
                NOTE_ASIDE,
                UNLINK_DATA,
                UNLINK_LEASES,
                UNLINK_META,
                REMOVE_DIR,
                PURGE_LEFTOVERS,
                SYNC_PURGED,
                NOTE_DONE,
            ],
            undo: &[],
        },
    ];
    const FORWARD: &'static [Step<Self, Deletion>] = &[
        FORWARD_SYNC,
        NOTE_ASIDE,
        UNLINK_DATA,
        UNLINK_LEASES,
        UNLINK_META,
        REMOVE_DIR,
        PURGE_LEFTOVERS,
        SYNC_PURGED,
        NOTE_DONE,
    ];
    const COMMIT_POINT: Option<&'static str> = Some(SET_ASIDE.name);
    const STARTS_PROCESSES: bool = false;

    fn begin(&self, work: Work<'_>) -> Result<Deletion, Fault> {
        let domain = work.root.writable(self.domain_id)?;
        let (dir, name, note) = check(&domain, self, work)?;
        Ok(Deletion {
            domain,
            dir: Some(dir),
            name,
            note,
        })
    }

    fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Deletion>, Fault> {
        let note = Note::decode(note)?;
        // Nothing of the earlier leftovers is unlinked before the second note.
        if note.was_aside && !note.is_aside {
            return Ok(RecoveryPath::NotBegun);
        }
        let domain = work.root.writable(self.domain_id)?;
        let mut in_place = false;
        for name in names::spellings(self.image_id) {
            in_place |= domain.images.identity(name)? == Some(note.image);
        }
        let is_aside = note.is_aside;
        let deletion = Deletion {
            domain,
            dir: None,
            name: String::new(),
            note,
        };
        match (in_place, is_aside) {
            (true, false) => Ok(RecoveryPath::Back(deletion)),
            (true, true) => Err(came_back(self, &deletion.note)),
            // Renamed, or purged already; if an image has this id again, it is another one, and stays.
            (false, _) => Ok(RecoveryPath::Forward(deletion)),
        }
    }

    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault> {
        let domain = root.domain(self.domain_id)?;
        for name in names::spellings(self.image_id) {
            if domain.images.kind(name)?.is_some() {
                return Ok(Evidence::Untouched);
            }
        }
        Ok(match leftover(&domain, self.image_id)? {
            Some((_, name)) => Evidence::Partial(format!(
                "image {} was renamed to {name} and not purged",
                self.image_id
            )),
            None => Evidence::ImageAbsent,
        })
    }

    fn makes_in(&self) -> Option<ImageId> {
        None
    }

    /// A deletion that can still be aborted has deleted nothing.
    fn undo_note(&self) -> &'static str {
        ""
    }
}

/// An image that is being deleted.
pub(super) struct Deletion {
    domain: WritableDomain,
    /// Its directory: before it is renamed, and after that as long as it exists.
    dir: Option<Dir>,
    /// The directory's name before the rename.
    name: String,
    note: Note,
}

/// Files that are listed at a time.
const AT_ONCE: usize = 1_024;

/// The note of the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    /// The name that it is renamed to.
    aside: String,
    /// The identity of the image's directory: a directory that is created again with the image's id is another one.
    image: Identity,
    /// Whether it was renamed already when the operation began.
    was_aside: bool,
    /// Whether the rename is durable.
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

/// The checks before anything is noted: the image's directory, its name, and the note.
fn check(domain: &Domain, op: &DeleteImage, work: Work<'_>) -> Result<(Dir, String, Note), Fault> {
    let check_abort = || stop_if_aborted(work.ctx);
    let (dir, name, aside, was_aside) = match domain.find_image(op.image_id)? {
        Some((name, dir)) => (dir, name, check::free_name(domain, op.image_id)?, false),
        None => {
            let (dir, aside) = leftover(domain, op.image_id)?.ok_or_else(|| not_found(op))?;
            (dir, aside.clone(), aside, true)
        }
    };
    each_leftover(domain, op.image_id, &|_, dir| {
        check::contents(dir, &check_abort)?;
        in_use::check_all(dir, &check_abort)
    })?;
    check::contents(&dir, &check_abort)?;
    if !was_aside {
        check::not_shared(domain, op.image_id, &dir, &check_abort)?;
    }
    in_use::check_all(&dir, &check_abort)?;
    let identity = domain.images.identity(&name)?.ok_or_else(|| not_found(op))?;
    let note = Note {
        aside,
        image: identity,
        was_aside,
        is_aside: false,
    };
    Ok((dir, name, note))
}

/// The leftovers of an earlier deletion of the image.
pub(super) fn leftover(domain: &Domain, of: ImageId) -> Result<Option<(Dir, String)>, Fault> {
    for name in domain.leftovers_of(of)? {
        if let Some(dir) = domain.images.dir(&name)? {
            return Ok(Some((dir, name)));
        }
    }
    Ok(None)
}

/// Calls `act` for each directory that earlier deletions of the image left.
fn each_leftover(
    domain: &Domain,
    of: ImageId,
    act: &dyn Fn(&str, &Dir) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for name in domain.leftovers_of(of)? {
        if let Some(dir) = domain.images.dir(&name)? {
            act(&name, &dir)?;
        }
    }
    Ok(())
}

fn not_found(op: &DeleteImage) -> Fault {
    let what = format_args!("image {} in domain {}", op.image_id, op.domain_id);
    let advice = "nothing of it is left; it may be deleted already";
    Fault::missing(FaultCode::ImageNotFound, what, advice).about(op.image_id)
}

fn set_aside(_: &DeleteImage, _: Work<'_>, deletion: &mut Deletion) -> Result<(), Fault> {
    if deletion.note.was_aside {
        return Ok(());
    }
    let Deletion {
        domain, name, note, ..
    } = deletion;
    Ok(domain.images.rename_new(name, &note.aside)?)
}

fn sync_images(_: &DeleteImage, _: Work<'_>, deletion: &mut Deletion) -> Result<(), Fault> {
    Ok(deletion.domain.images.sync()?)
}

/// The rename is durable: notes that, and opens the directory. From here on the purge can be repeated from any point.
fn note_aside(op: &DeleteImage, work: Work<'_>, deletion: &mut Deletion) -> Result<(), Fault> {
    let Deletion {
        domain, dir, note, ..
    } = deletion;
    note.is_aside = true;
    work.ctx.note(&note.encode(), true)?;
    let here = domain.images.identity(&note.aside)? == Some(note.image);
    *dir = domain.images.dir(&note.aside)?.filter(|_| here);
    if dir.is_none() && !work.root.under_way().may_have_removed(work.task) {
        return Err(moved_away(op, note));
    }
    Ok(())
}

/// Only the first time it certainly exists.
fn is_there(_: &DeleteImage, deletion: &Deletion) -> Result<bool, Fault> {
    Ok(deletion.dir.is_some())
}

impl Deletion {
    /// A directory that was moved meanwhile is not deleted at its new place.
    fn still_aside(&self, op: &DeleteImage) -> Result<(), Fault> {
        match self.domain.images.identity(&self.note.aside)? == Some(self.note.image) {
            true => Ok(()),
            false => Err(moved_away(op, &self.note)),
        }
    }

    fn aside(&self) -> Result<&Dir, Fault> {
        made(self.dir.as_ref(), "an image that was set aside")
    }
}

/// Some of an image's files.
type Which = fn(ImageFile) -> bool;

/// The order in which files are deleted.
const IN_ORDER: [Which; 3] = [is_data, is_lease, is_meta];

const fn is_data(file: ImageFile) -> bool {
    matches!(file, ImageFile::Data(_) | ImageFile::OfTask(_))
}

const fn is_lease(file: ImageFile) -> bool {
    matches!(file, ImageFile::Lease(_))
}

const fn is_meta(file: ImageFile) -> bool {
    matches!(file, ImageFile::Meta(_) | ImageFile::MetaNew(_))
}

/// Only missing files are skipped.
fn unlink(dir: &Dir, which: Which) -> Result<(), Fault> {
    let is_one = |entry: &Entry| ImageFile::parse(&entry.name).is_some_and(which);
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

fn remove_dir(op: &DeleteImage, work: Work<'_>, deletion: &mut Deletion) -> Result<(), Fault> {
    deletion.still_aside(op)?;
    // A file that appeared after the check is not ours: it is named and kept.
    check::nothing_left(deletion.aside()?)?;
    work.root.under_way().removes(work.task);
    Ok(deletion.domain.images.remove_dir(&deletion.note.aside)?)
}

fn moved_away(op: &DeleteImage, note: &Note) -> Fault {
    let (image, aside) = (op.image_id, &note.aside);
    Fault::new(
        FaultCode::StorageReplaced,
        format!(
            "image {image} was renamed to {aside} to be deleted, and is no longer there: somebody moved, replaced or removed it before it was purged. Look for its volumes elsewhere in the domain, and delete them"
        ),
    )
    .about(image)
}

fn came_back(op: &DeleteImage, note: &Note) -> Fault {
    Fault::new(
        FaultCode::UnexpectedFile,
        format!(
            "image {} was renamed to {} to be deleted, and somebody restored it, perhaps in part; it was not touched: check it, then delete it again",
            op.image_id, note.aside
        ),
    )
    .about(op.image_id)
}

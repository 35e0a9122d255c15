//! The reasons to refuse the deletion of an image.

use std::ops::ControlFlow;

use common::id::{ImageId, VolumeId};
use common::{Fault, FaultCode};
use rustix::fs::FileType;

use crate::domain::{Domain, LEFTOVERS_MAX, too_many_leftovers};
use crate::file::{Dir, Entry, Kind, kind_in_words};
use crate::names::{self, ImageFile};
use crate::volume::{Role, read_meta, template_home};

/// The prefix of a file that was unlinked while it is open on NFS.
const NFS_OPEN: &str = ".nfs";

/// Called before each file; an error stops the work.
pub(super) type AbortCheck<'a> = &'a dyn Fn() -> Result<(), Fault>;

/// The first free name that the image can be renamed to.
pub(super) fn free_name(domain: &Domain, image: ImageId) -> Result<String, Fault> {
    for name in names::set_aside(image).take(LEFTOVERS_MAX) {
        if domain.images.kind(&name)?.is_none() {
            return Ok(name);
        }
    }
    Err(too_many_leftovers(image))
}

/// Refuses an image with files that neither oVirt nor this service created.
pub(super) fn contents(dir: &Dir, check_abort: AbortCheck<'_>) -> Result<(), Fault> {
    dir.for_each(|entry| {
        check_abort()?;
        match (ImageFile::parse(&entry.name), entry.kind) {
            (Some(_), Kind::File) => Ok(ControlFlow::Continue(())),
            (Some(_), _) => Err(not_a_file(dir, &entry)),
            (None, _) => Err(unexpected(dir, &entry)),
        }
    })
}

/// Checks for other files after all known files were unlinked.
pub(super) fn nothing_left(dir: &Dir) -> Result<(), Fault> {
    match dir.some_entries(1, &|_| true)?.first() {
        None => Ok(()),
        Some(entry) => Err(unexpected(dir, entry)),
    }
}

fn not_a_file(dir: &Dir, entry: &Entry) -> Fault {
    let stat = dir.stat(&entry.name).ok().flatten();
    let kind = stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
    let what = kind_in_words(kind);
    let path = dir.path().join(&entry.name);
    Fault::new(
        FaultCode::NotARegularFile,
        format!(
            "{} is {what} where the file of a volume should be; nothing was changed: remove it yourself",
            path.display()
        ),
    )
    .about(path.display())
}

fn unexpected(dir: &Dir, entry: &Entry) -> Fault {
    let path = dir.path().join(&entry.name);
    let (code, advice) = if entry.name.to_string_lossy().starts_with(NFS_OPEN) {
        (
            FaultCode::ImageInUse,
            "a process on this host still has an unlinked file open; end it, then delete the image again",
        )
    } else {
        (
            FaultCode::UnexpectedFile,
            "oVirt did not create it, so it is left alone; move it away, then delete the image again",
        )
    };
    Fault::new(code, format!("the image has {}: {advice}", path.display())).about(path.display())
}

/// Refuses an image whose template is the base of other images: its links in them would remain, but without their
/// origin.
pub(super) fn not_shared(
    domain: &Domain,
    image: ImageId,
    dir: &Dir,
    check_abort: AbortCheck<'_>,
) -> Result<(), Fault> {
    dir.for_each(|entry| {
        check_abort()?;
        let Some(volume) = ImageFile::parse(&entry.name).and_then(ImageFile::volume) else {
            return Ok(ControlFlow::Continue(()));
        };
        let linked = dir.stat(&entry.name)?.is_some_and(|s| s.st_nlink > 1);
        if linked && is_home(domain, image, dir, volume)? {
            return Err(Fault::new(
                FaultCode::ImageShared,
                format!("volume {volume} is a template that other images are based on; delete those first"),
            )
            .about(image));
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Whether the template belongs to this image and is not just linked into it.
fn is_home(domain: &Domain, image: ImageId, dir: &Dir, volume: VolumeId) -> Result<bool, Fault> {
    if let Ok(Some(meta)) = read_meta(dir, volume) {
        return Ok(meta.role == Role::Shared && meta.image == image);
    }
    Ok(template_home(&domain.images, volume)? == Some(image))
}

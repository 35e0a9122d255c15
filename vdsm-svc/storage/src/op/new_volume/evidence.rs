//! What storage alone shows of a creation.

use common::{CreateVolume, Fault};

use super::super::Evidence;
use super::is_committed;
use crate::file::Dir;
use crate::names::ImageFile;
use crate::root::StorageRoot;
use crate::volume::{VolumeMeta, read_meta};

/// What storage alone shows.
pub(in crate::op) fn evidence(root: &StorageRoot, op: &CreateVolume) -> Result<Evidence, Fault> {
    let domain = root.domain(op.domain_id)?;
    let Some(image) = domain.images.dir(op.image_id.to_string())? else {
        return Ok(Evidence::Untouched);
    };
    let volume = op.volume_id;
    let data = image.kind(volume.to_string())?.is_some();
    match read_meta(&image, volume)? {
        Some(meta) if data && is_committed(&meta, op) && same_wish(&meta, op) => Ok(Evidence::Done),
        Some(meta) => Ok(Evidence::Partial(format!(
            "volume {volume} is {} and not as it was to be made",
            meta.legality.as_str()
        ))),
        None if data => Ok(Evidence::Partial(format!(
            "volume {volume} has data and no metadata"
        ))),
        None => half_made(&image, op),
    }
}

/// Traces of a volume that is not there: nobody else works in an image whose lock the operation had.
fn half_made(image: &Dir, op: &CreateVolume) -> Result<Evidence, Fault> {
    let entries = image.entries()?;
    let trace = entries.iter().find(|e| match ImageFile::parse(&e.name) {
        Some(ImageFile::OfTask(_)) => true,
        Some(ImageFile::MetaNew(volume)) => volume == op.volume_id,
        _ => false,
    });
    Ok(match trace {
        Some(entry) => Evidence::Partial(format!(
            "image {} holds {} of an operation that was cut off",
            op.image_id,
            entry.name.to_string_lossy()
        )),
        None if entries.is_empty() => Evidence::Partial(format!("image {} is empty", op.image_id)),
        None => Evidence::Untouched,
    })
}

fn same_wish(meta: &VolumeMeta, op: &CreateVolume) -> bool {
    meta.capacity_bytes == op.capacity_bytes && meta.allocation == op.allocation && meta.parent.is_none()
}

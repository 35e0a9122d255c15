//! The one writer of a `.meta`.

use common::Fault;
use common::id::VolumeId;

use super::{VolumeMeta, data_name};
use crate::file::Dir;
use crate::names;

/// Replaces a volume's metadata, whole or not at all: written aside, synced, renamed, and the directory synced.
/// It keeps the spelling in which the volume is there. Without the file's sync a power cut leaves an empty `.meta` on XFS.
///
/// The caller holds the image's lock, so what lies aside under the same name is a dead writer's.
///
/// # Errors
/// Of the file system. Whether the new text stands is then to be seen from storage alone.
pub(crate) fn write_meta(image: &Dir, volume: VolumeId, meta: &VolumeMeta) -> Result<(), Fault> {
    let text = meta.encode().map_err(|e| e.fault(volume))?;
    let (aside, place) = (
        names::meta_new(volume),
        names::meta_of(&data_name(image, volume)?),
    );
    image.unlink(&aside)?;
    let file = image.create_file(&aside)?;
    image.write(&aside, &file, text.as_bytes())?;
    image.sync_file(&aside, &file)?;
    image.rename_over(&aside, &place)?;
    image.sync()?;
    Ok(())
}

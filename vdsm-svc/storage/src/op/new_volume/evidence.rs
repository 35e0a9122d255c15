//! What storage alone shows of a new volume.

use common::Fault;

use super::super::Evidence;
use super::super::delete_image::leftover;
use super::VolumeSpec;
use crate::file::Dir;
use crate::names::ImageFile;
use crate::root::StorageRoot;
use crate::volume::{VolumeMeta, read_meta};

impl VolumeSpec<'_> {
    /// What storage alone shows. A capacity that is not known is not looked at.
    pub(in crate::op) fn evidence(
        &self,
        root: &StorageRoot,
        capacity_bytes: Option<u64>,
    ) -> Result<Evidence, Fault> {
        let domain = root.domain(self.at.domain_id)?;
        let Some(image) = domain.images.dir(self.at.image_id.to_string())? else {
            return Ok(match leftover(&domain, self.at.image_id)? {
                Some((_, name)) => Evidence::Partial(format!("{name} is left of the image and not purged")),
                None => Evidence::Untouched,
            });
        };
        let volume = self.at.volume_id;
        let data = image.kind(volume.to_string())?.is_some();
        match read_meta(&image, volume)? {
            Some(meta) if data && self.is_committed(&meta) && self.is_as_wished(&meta, capacity_bytes) => {
                Ok(Evidence::Done)
            }
            Some(meta) => Ok(Evidence::Partial(format!(
                "volume {volume} is {}, which is not what was requested",
                meta.legality.as_str()
            ))),
            None if data => Ok(Evidence::Partial(format!(
                "volume {volume} has data and no metadata"
            ))),
            None => self.half_made(&image),
        }
    }

    /// Traces of a volume that is not there: nobody else works in an image whose lock the operation had.
    fn half_made(&self, image: &Dir) -> Result<Evidence, Fault> {
        let entries = image.entries()?;
        let trace = entries.iter().find(|e| match ImageFile::parse(&e.name) {
            Some(ImageFile::OfTask(_)) => true,
            Some(ImageFile::MetaNew(volume)) => volume == self.at.volume_id,
            _ => false,
        });
        let id = self.at.image_id;
        Ok(match trace {
            Some(entry) => Evidence::Partial(format!(
                "image {id} has {} of an operation that was interrupted",
                entry.name.to_string_lossy()
            )),
            None if entries.is_empty() => Evidence::Empty(format!("image {id} is empty")),
            None => Evidence::Untouched,
        })
    }

    fn is_as_wished(&self, meta: &VolumeMeta, capacity_bytes: Option<u64>) -> bool {
        capacity_bytes.is_none_or(|bytes| i64::try_from(bytes) == Ok(meta.capacity_bytes))
            && meta.allocation == self.allocation
            && meta.parent.is_none()
    }
}

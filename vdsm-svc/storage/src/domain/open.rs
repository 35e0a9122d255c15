//! An open domain: to read, or to write.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use common::id::{DomainId, ImageId, VolumeId};
use common::{Fault, FaultCode};

use super::{DomainMeta, Writer};
use crate::file::{Dir, mount_of};
use crate::names;
use crate::volume::{self, VolumeInfo};

/// A domain, open for reading.
#[derive(Clone)]
pub struct Domain {
    pub(crate) id: DomainId,
    pub(crate) dir: Dir,
    pub(crate) dom_md: Dir,
    pub(crate) images: Dir,
    pub(crate) meta: DomainMeta,
}

/// A writable domain: this process holds its writer's lock.
#[derive(Clone)]
pub struct WritableDomain {
    domain: Domain,
    _writer: Arc<Writer>,
}

impl Deref for WritableDomain {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.domain
    }
}

impl WritableDomain {
    pub(crate) fn new(domain: Domain, writer: Arc<Writer>) -> Self {
        Self {
            domain,
            _writer: writer,
        }
    }
}

impl Domain {
    /// Opens the domain in the root.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, and those of its metadata.
    pub(crate) fn open(root: &Dir, id: DomainId) -> Result<Self, Fault> {
        let dir = root.dir(id.to_string())?.ok_or_else(|| not_found(id))?;
        let part = |name| {
            let found = dir.dir(name)?.ok_or_else(|| {
                invalid(
                    id,
                    format!("domain {id} has no directory {name}; restore it from a backup"),
                )
            })?;
            match is_mounted_over(&dir, &found)? {
                true => Err(mounted_over(id, name)),
                false => Ok(found),
            }
        };
        let dom_md: Dir = part(names::DOM_MD)?;
        let text = dom_md.read_bytes(names::METADATA)?.ok_or_else(|| {
            invalid(
                id,
                format!("domain {id} has no dom_md/metadata; restore it from a backup"),
            )
        })?;
        let meta = DomainMeta::read(&text).map_err(|e| e.fault(id))?;
        if meta.id != id {
            return Err(invalid(
                id,
                format!(
                    "dom_md/metadata in {id} belongs to domain {}; rename the directory",
                    meta.id
                ),
            ));
        }
        let images = part(names::IMAGES)?;
        Ok(Self {
            id,
            dir,
            dom_md,
            images,
            meta,
        })
    }

    /// The domain's id.
    pub fn id(&self) -> DomainId {
        self.id
    }

    /// Its metadata.
    pub fn meta(&self) -> &DomainMeta {
        &self.meta
    }

    /// An image's directory and its name; none if it does not exist.
    ///
    /// # Errors
    /// Of the file system; `NOT_A_REGULAR_FILE` if something else has the name.
    pub(crate) fn find_image(&self, image: ImageId) -> Result<Option<(String, Dir)>, Fault> {
        for name in names::spellings(image) {
            if let Some(dir) = self.images.dir(&name)? {
                return Ok(Some((name, dir)));
            }
        }
        Ok(None)
    }

    /// An image's directory.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`.
    pub(crate) fn image(&self, image: ImageId) -> Result<Dir, Fault> {
        let found = self.find_image(image)?;
        found.map(|(_, dir)| dir).ok_or_else(|| {
            let what = format_args!("image {image} in domain {}", self.id);
            Fault::missing(FaultCode::ImageNotFound, what, "list its images").about(image)
        })
    }

    /// The volumes of an image, sorted by id, including a template that it is based on.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, and those of the file system.
    pub fn volumes(&self, image: ImageId) -> Result<Vec<VolumeInfo>, Fault> {
        let listing = self.volume_listing(image)?;
        Ok(listing.ids().map(|id| listing.describe(id)).collect())
    }

    /// The volumes of an image, which can be described one by one.
    ///
    /// # Errors
    /// As [`Domain::volumes`].
    pub fn volume_listing(&self, image: ImageId) -> Result<VolumeListing, Fault> {
        let dir = self.image(image)?;
        let ids = volume::volume_ids(&dir)?;
        Ok(VolumeListing { dir, image, ids })
    }

    /// One volume.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `VOLUME_NOT_FOUND`, and those of the file system. A volume that cannot be described is not
    /// an error: its status is INVALID.
    pub fn volume(&self, image: ImageId, id: VolumeId) -> Result<VolumeInfo, Fault> {
        let dir = self.image(image)?;
        if !volume::volume_ids(&dir)?.contains(&id) {
            let what = format_args!("volume {id} in image {image} of domain {}", self.id);
            return Err(Fault::missing(FaultCode::VolumeNotFound, what, "").about(id));
        }
        Ok(volume::describe(&dir, image, id))
    }
}

/// The listed volumes of an image, described on demand, so that a page describes only its own.
pub struct VolumeListing {
    dir: Dir,
    image: ImageId,
    ids: BTreeSet<VolumeId>,
}

impl VolumeListing {
    /// Their ids, sorted.
    pub fn ids(&self) -> impl Iterator<Item = VolumeId> {
        self.ids.iter().copied()
    }

    /// One of them.
    pub fn describe(&self, id: VolumeId) -> VolumeInfo {
        volume::describe(&self.dir, self.image, id)
    }
}

fn not_found(id: DomainId) -> Fault {
    let what = format_args!("storage domain {id} in the storage root");
    Fault::missing(FaultCode::DomainNotFound, what, "list the domains, or create it").about(id)
}

/// Whether an open part of a domain is on another mount than the domain: then its content is hidden underneath, and
/// would seem to be deleted.
fn is_mounted_over(domain: &Dir, part: &Dir) -> Result<bool, Fault> {
    let mount = |dir: &Dir| mount_of(dir, Path::new(""));
    Ok(match (mount(domain), mount(part)) {
        (Some(around), Some(within)) => around != within,
        // Before Linux 5.8. A subvolume has its own device number as well.
        _ => !domain.file_id()?.is_beside(part.file_id()?),
    })
}

fn mounted_over(id: DomainId, name: &str) -> Fault {
    Fault::new(
        FaultCode::StorageReplaced,
        format!(
            "something is mounted over the directory {name} of domain {id} (see `findmnt`), which hides what the domain has there: nothing is read or changed in the domain until it is unmounted"
        ),
    )
    .about(id)
}

fn invalid(id: DomainId, message: String) -> Fault {
    Fault::new(FaultCode::DomainMetadataInvalid, message).about(id)
}

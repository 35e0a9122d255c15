//! The description of a domain: VDSM's `getStorageDomainInfo` and `…Stats`, and more.

use std::ops::ControlFlow;

use common::id::{DomainId, ImageId};
use common::{Fault, FaultCode, Label, Words};

use super::writer::read_only_reason;
use super::{DirectIo, Domain, direct_io};
use crate::file::Kind;
use crate::names;

/// The maximum number of leftovers of an image; with more, something else must be wrong.
pub(crate) const LEFTOVERS_MAX: usize = 1_000;

/// The fault for more leftovers than that.
pub(crate) fn too_many_leftovers(of: ImageId) -> Fault {
    Fault::new(
        FaultCode::UnexpectedFile,
        format!("there are {LEFTOVERS_MAX} leftovers of image {of}; remove the directories _remove_me_{of}…"),
    )
    .about(of)
}

/// The description of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainInfo {
    /// Its id.
    pub id: DomainId,
    /// The name that people gave it.
    pub name: Label,
    /// `LOCALFS`, `NFS` …
    pub kind: Label,
    /// `Data`, `Iso` or `Backup`.
    pub class: Label,
    /// `Master` or `Regular`.
    pub role: Label,
    /// The version of its format.
    pub version: u32,
    /// The oVirt pools that it belongs to.
    pub pools: Vec<Label>,
    /// The block size in bytes.
    pub block_size_bytes: u32,
    /// Alignment of leases, in bytes.
    pub alignment_bytes: u32,
    /// Its location, as oVirt writes it.
    pub remote_path: Words,
    /// The size of its file system in bytes.
    pub total_bytes: u64,
    /// The free space for unprivileged users in bytes.
    pub free_bytes: u64,
    /// Images that were renamed to be deleted and still exist (`_remove_me_…`).
    pub leftovers: Vec<String>,
    /// Why it is read-only here; none if it is writable.
    pub read_only: Option<Words>,
    /// Its file system's support for direct I/O.
    pub direct_io: DirectIo,
}

/// A directory among the images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageName {
    /// An image.
    Image(ImageId),
    /// The remains of a deletion: an image that was renamed and not yet purged.
    Leftover {
        /// The directory's name.
        name: String,
        /// The image that was deleted.
        image: ImageId,
    },
}

impl std::str::FromStr for ImageName {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let of_image = || names::image(name).map(Self::Image);
        let leftover = names::set_aside_image(name).map(|image| Self::Leftover {
            name: name.to_owned(),
            image,
        });
        leftover.or_else(of_image).ok_or(UnknownName)
    }
}

/// A name that is neither an image nor the leftover of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of an image")]
pub struct UnknownName;

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(id) => id.fmt(f),
            Self::Leftover { name, .. } => f.write_str(name),
        }
    }
}

impl Domain {
    /// Describes the domain.
    ///
    /// # Errors
    /// Of the file system.
    pub fn info(&self) -> Result<DomainInfo, Fault> {
        let text = |key| self.meta.get(key).unwrap_or_default();
        let number = |key, default| self.meta.get(key).and_then(|t| t.parse().ok()).unwrap_or(default);
        let (total_bytes, free_bytes) = self.space()?;
        let leftovers = self.image_names()?.into_iter().filter_map(|n| match n {
            ImageName::Leftover { name, .. } => Some(name),
            ImageName::Image(_) => None,
        });
        Ok(DomainInfo {
            id: self.id,
            name: self.meta.name().into(),
            kind: text("TYPE").into(),
            class: text("CLASS").into(),
            role: text("ROLE").into(),
            version: self.meta.version,
            pools: self.meta.pools().iter().map(Label::from).collect(),
            block_size_bytes: number("BLOCK_SIZE", 512),
            alignment_bytes: number("ALIGNMENT", 1 << 20),
            remote_path: text("REMOTE_PATH").into(),
            total_bytes,
            free_bytes,
            leftovers: leftovers.collect(),
            read_only: read_only_reason(self).map(Words::from),
            direct_io: self.direct_io(),
        })
    }

    /// The images, then the leftovers of deletions, each sorted. Other names are not images and are not shown. A name
    /// of an image that is not a directory is shown: opening it says what it is.
    ///
    /// # Errors
    /// Of the file system.
    pub fn image_names(&self) -> Result<Vec<ImageName>, Fault> {
        let mut found: Vec<_> = (self.images.entries()?.into_iter())
            .filter_map(|e| {
                let name = e.name.to_str()?;
                match names::set_aside_image(name) {
                    Some(image) => (e.kind == Kind::Dir).then(|| ImageName::Leftover {
                        name: name.to_owned(),
                        image,
                    }),
                    None => names::image(name).map(ImageName::Image),
                }
            })
            .collect();
        found.sort();
        // An id in two spellings is one image: the one that is opened.
        found.dedup();
        Ok(found)
    }

    /// The directories that earlier deletions of an image have left, sorted by name.
    ///
    /// # Errors
    /// `UNEXPECTED_FILE` if there are too many; those of the file system.
    pub(crate) fn leftovers_of(&self, of: ImageId) -> Result<Vec<String>, Fault> {
        let mut found = Vec::new();
        self.images.for_each_name(|name| {
            let text = name
                .to_str()
                .filter(|name| names::set_aside_image(name) == Some(of));
            if let Some(text) = text
                && self.images.kind(text)? == Some(Kind::Dir)
            {
                found.push(text.to_owned());
            }
            if found.len() > LEFTOVERS_MAX {
                return Err(too_many_leftovers(of));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        found.sort();
        Ok(found)
    }

    /// Its file system's support for direct I/O, determined at each call.
    pub(crate) fn direct_io(&self) -> DirectIo {
        direct_io::probe(&self.dom_md)
    }

    /// The size of the domain's file system and the free space for unprivileged users, in bytes.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn space(&self) -> Result<(u64, u64), Fault> {
        let stat = rustix::fs::fstatvfs(&self.dir)
            .map_err(|e| self.dir.error("look at the space of", "".as_ref(), e.into()))?;
        let unit = stat.f_frsize;
        Ok((
            stat.f_blocks.saturating_mul(unit),
            stat.f_bavail.saturating_mul(unit),
        ))
    }
}

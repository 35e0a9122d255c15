//! The storage verbs, validated: a value of these types is fit to run on any file storage domain.

use crate::id::{DomainId, ImageId, VolumeId};
use crate::lock::Mode;
use crate::text::{self, TextError};

/// The largest volume, in bytes: 8 TiB.
pub const MAX_CAPACITY_BYTES: u64 = 8 << 40;

/// Capacities are multiples of this many bytes; what is not is rounded up (VDSM does the same).
pub const CAPACITY_STEP_BYTES: u64 = 4096;

/// How a volume keeps its data (VDSM: `FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeFormat {
    /// Raw bytes.
    Raw,
    /// qcow2, compat 1.1. VDSM calls it `COW`.
    Cow,
}

/// How space is taken (VDSM: `TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// As it is written.
    Sparse,
    /// All at once, with fallocate.
    Preallocated,
}

/// Creates a volume without a parent, and its image if there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CreateVolume {
    /// The domain it lies in.
    pub domain_id: DomainId,
    /// The image it belongs to.
    pub image_id: ImageId,
    /// Its own id, also its file name.
    pub volume_id: VolumeId,
    /// What a guest sees, in bytes; a multiple of [`CAPACITY_STEP_BYTES`].
    pub capacity_bytes: u64,
    /// How data is kept.
    pub format: VolumeFormat,
    /// How space is taken.
    pub allocation: Allocation,
    /// For people; cut to what the metadata holds.
    pub description: String,
}

/// Where a volume lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VolumeAddress {
    /// Its domain.
    pub domain_id: DomainId,
    /// Its image.
    pub image_id: ImageId,
    /// Itself.
    pub volume_id: VolumeId,
}

/// Copies a volume without a parent to a new volume, and makes that one's image if there is none. The new one is
/// as large as the old.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyVolume {
    /// What is copied.
    pub source: VolumeAddress,
    /// What is made.
    pub target: VolumeAddress,
    /// How the target keeps its data.
    pub format: VolumeFormat,
    /// How the target takes its space.
    pub allocation: Allocation,
    /// The target's, for people; cut to what the metadata holds.
    pub description: String,
    /// Whether the two are compared before the target counts.
    pub verify: bool,
}

/// Deletes an image with all its volumes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeleteImage {
    /// The domain it lies in.
    pub domain_id: DomainId,
    /// The image.
    pub image_id: ImageId,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operation {
    /// See [`CreateVolume`].
    CreateVolume(CreateVolume),
    /// See [`CopyVolume`].
    CopyVolume(CopyVolume),
    /// See [`DeleteImage`].
    DeleteImage(DeleteImage),
    /// Touches nothing. Served only by builds with fail points, to measure everything around an operation.
    Noop,
}

impl Operation {
    /// The verb in `snake_case`, as in the contract.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::CreateVolume(_) => "create_volume",
            Self::CopyVolume(_) => "copy_volume",
            Self::DeleteImage(_) => "delete_image",
            Self::Noop => "noop",
        }
    }

    /// All that it touches, what it changes before what it only reads. From this follow the locks of a host, those that an
    /// engine holds for tasks of others, and under which entities a task is found.
    pub fn touches(&self) -> Vec<Touch> {
        let touch = |domain, image, mode| Touch { domain, image, mode };
        match self {
            Self::CreateVolume(op) => vec![touch(op.domain_id, op.image_id, Mode::Exclusive)],
            Self::CopyVolume(CopyVolume { source, target, .. }) => vec![
                touch(target.domain_id, target.image_id, Mode::Exclusive),
                touch(source.domain_id, source.image_id, Mode::Shared),
            ],
            Self::DeleteImage(op) => vec![touch(op.domain_id, op.image_id, Mode::Exclusive)],
            Self::Noop => Vec::new(),
        }
    }

    /// The domains of what it touches, each once; it shares them.
    pub fn domains(&self) -> Vec<DomainId> {
        let mut domains: Vec<DomainId> = Vec::new();
        for touch in self.touches() {
            if !domains.contains(&touch.domain) {
                domains.push(touch.domain);
            }
        }
        domains
    }

    /// What it changes, if anything: one image.
    pub fn changes(&self) -> Option<Touch> {
        let mut touches = self.touches().into_iter();
        touches.find(|touch| touch.mode == Mode::Exclusive)
    }

    /// The domain of what it changes, if anything.
    pub fn domain_id(&self) -> Option<DomainId> {
        self.changes().map(|touch| touch.domain)
    }

    /// The image that it changes, if any.
    pub fn image_id(&self) -> Option<ImageId> {
        self.changes().map(|touch| touch.image)
    }
}

/// An image that an operation changes, which it then has alone, or reads, which it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Touch {
    /// Where the image lies.
    pub domain: DomainId,
    /// The image, with all its volumes.
    pub image: ImageId,
    /// Whether it is changed.
    pub mode: Mode,
}

/// Why a capacity is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Zero or negative.
    #[error("is {0}; expected 1 to {MAX_CAPACITY_BYTES} bytes")]
    NotPositive(i64),
    /// Above [`MAX_CAPACITY_BYTES`].
    #[error("is {0}; at most {MAX_CAPACITY_BYTES} bytes (8 TiB) are allowed")]
    TooLarge(i64),
}

/// A capacity as callers give it, checked and rounded up to [`CAPACITY_STEP_BYTES`].
///
/// # Errors
/// [`CapacityError`] for what is not 1 to [`MAX_CAPACITY_BYTES`].
pub fn capacity(bytes: i64) -> Result<u64, CapacityError> {
    match u64::try_from(bytes) {
        Err(_) | Ok(0) => Err(CapacityError::NotPositive(bytes)),
        Ok(bytes) if bytes > MAX_CAPACITY_BYTES => Err(CapacityError::TooLarge(bytes.cast_signed())),
        Ok(bytes) => Ok(bytes.next_multiple_of(CAPACITY_STEP_BYTES)),
    }
}

/// A volume's description as callers give it.
///
/// # Errors
/// [`TextError`] for control characters and what is too long.
pub fn description(text: &str) -> Result<String, TextError> {
    text::description(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_bounded_and_rounded_up() {
        assert_eq!(capacity(1), Ok(4096));
        assert_eq!(capacity(4096), Ok(4096));
        assert_eq!(capacity(4097), Ok(8192));
        assert_eq!(capacity(8 << 40), Ok(8 << 40));
        assert_eq!(capacity(0), Err(CapacityError::NotPositive(0)));
        assert_eq!(capacity(-1), Err(CapacityError::NotPositive(-1)));
        assert_eq!(capacity(i64::MAX), Err(CapacityError::TooLarge(i64::MAX)));
        assert_eq!(
            capacity((8 << 40) + 1),
            Err(CapacityError::TooLarge((8 << 40) + 1))
        );
    }
}

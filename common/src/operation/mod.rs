//! The storage operations, validated: a value of these types can run on any file storage domain.
//!
//! Each verb has a file of its own: its parameters, and its properties ([`Verb`]). Below they are listed once; from
//! that list come [`Operation`] and the macros by which other crates handle all of them,
//! [`each_verb!`](crate::each_verb) and [`by_verb!`](crate::by_verb).

mod copy_volume;
mod create_volume;
mod delete_image;
mod extend_volume;
mod noop;

use uuid::Uuid;

use crate::id::{DomainId, ImageId, VolumeId};
use crate::lock::Mode;
use crate::text::{self, TextError};

/// The largest volume, in bytes: 8 TiB.
pub const MAX_CAPACITY_BYTES: u64 = 8 << 40;

/// Capacities are multiples of this many bytes; others are rounded up, as in VDSM.
pub const CAPACITY_STEP_BYTES: u64 = 4096;

/// The properties of a verb. There are no default methods: a new verb must answer every question.
pub trait Verb {
    /// Its name in `snake_case`, as in the contract.
    const NAME: &'static str;

    /// Everything that it touches, what it changes before what it only reads. This determines the locks on a host,
    /// the locks that an engine holds for foreign tasks, and the entities by which a task is found.
    fn touches(&self) -> Vec<Touch>;

    /// The volumes in its parameters.
    fn volumes(&self) -> Vec<VolumeId>;

    /// What it does, for people: "create volume …".
    fn summary(&self) -> String;
}

/// Makes [`Operation`] of a list of verbs, each by its module and its type, and the macros that handle all of them.
/// The first token is a dollar sign, for the macros within.
macro_rules! operations {
    ($d:tt $($module:ident::$verb:ident,)*) => {
        $(pub use $module::$verb;)*

        /// What a task does.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Operation {
            $(
                #[doc = concat!("See [`", stringify!($verb), "`].")]
                $verb($verb),
            )*
        }

        impl Operation {
            /// The names of all verbs.
            pub const ALL_NAMES: &'static [&'static str] = &[$($verb::NAME,)*];
        }

        $(
            impl From<$verb> for Operation {
                fn from(verb: $verb) -> Self {
                    Self::$verb(verb)
                }
            }
        )*

        /// Calls a macro with all verbs: `each_verb!(list)` is `list! { CreateVolume, CopyVolume, … }`. Each is the
        /// name of a variant of `Operation` and of the type in it.
        #[macro_export]
        macro_rules! each_verb {
            ($d list:ident) => {
                $d list! { $($verb,)* }
            };
        }

        /// Does the same with the verb of an operation: `by_verb!(operation, op => op.touches())`.
        #[macro_export]
        macro_rules! by_verb {
            ($d operation:expr, $d op:ident => $d body:expr) => {
                match $d operation {
                    $($crate::operation::Operation::$verb($d op) => $d body,)*
                }
            };
        }
    };
}

operations! { $
    create_volume::CreateVolume,
    copy_volume::CopyVolume,
    delete_image::DeleteImage,
    extend_volume::ExtendVolume,
    noop::Noop,
}

impl Operation {
    /// The verb's name in `snake_case`, as in the contract.
    pub fn name(&self) -> &'static str {
        fn of<V: Verb>(_: &V) -> &'static str {
            V::NAME
        }
        by_verb!(self, op => of(op))
    }

    /// As [`Verb::touches`].
    pub fn touches(&self) -> Vec<Touch> {
        by_verb!(self, op => op.touches())
    }

    /// As [`Verb::summary`].
    pub fn summary(&self) -> String {
        by_verb!(self, op => op.summary())
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

    /// The image that it changes, if any.
    pub fn changes(&self) -> Option<Touch> {
        let mut touches = self.touches().into_iter();
        touches.find(|touch| touch.mode == Mode::Exclusive)
    }

    /// The domain of the image that it changes, if any.
    pub fn domain_id(&self) -> Option<DomainId> {
        self.changes().map(|touch| touch.domain)
    }

    /// The image that it changes, if any.
    pub fn image_id(&self) -> Option<ImageId> {
        self.changes().map(|touch| touch.image)
    }

    /// Whether it is about the domain, image or volume of this id.
    pub fn is_about(&self, id: Uuid) -> bool {
        let mut touches = self.touches().into_iter();
        let volumes = || by_verb!(self, op => op.volumes());
        touches.any(|touch| touch.domain.as_uuid() == id || touch.image.as_uuid() == id)
            || volumes().iter().any(|volume| volume.as_uuid() == id)
    }

    /// Whether it is the verb that does nothing, which only builds with fail points support.
    pub const fn is_noop(&self) -> bool {
        matches!(self, Self::Noop(_))
    }
}

/// An image that an operation changes, with an exclusive lock, or only reads, with a shared lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Touch {
    /// The domain of the image.
    pub domain: DomainId,
    /// The image, with all its volumes.
    pub image: ImageId,
    /// Exclusive if it is changed.
    pub mode: Mode,
}

impl Touch {
    /// An image that is changed.
    pub const fn changed(domain: DomainId, image: ImageId) -> Self {
        let mode = Mode::Exclusive;
        Self { domain, image, mode }
    }

    /// An image that is only read.
    pub const fn read(domain: DomainId, image: ImageId) -> Self {
        let mode = Mode::Shared;
        Self { domain, image, mode }
    }
}

/// The format of a volume's data (VDSM: `FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeFormat {
    /// Raw bytes.
    Raw,
    /// qcow2, compat 1.1. VDSM calls it `COW`.
    Cow,
}

/// When space is allocated (VDSM: `TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// When it is written.
    Sparse,
    /// When the volume is created, with fallocate.
    Preallocated,
}

/// The address of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VolumeAddress {
    /// Its domain.
    pub domain_id: DomainId,
    /// Its image.
    pub image_id: ImageId,
    /// The volume.
    pub volume_id: VolumeId,
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
/// [`CapacityError`] unless it is 1 to [`MAX_CAPACITY_BYTES`].
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
/// [`TextError`] for control characters and texts that are too long.
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

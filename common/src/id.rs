//! Typed ids. Each kind of entity has its own type instead of a bare UUID, so the id of a volume cannot be passed for
//! the id of an image.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The field was left empty.
    #[error("is empty; expected a UUID such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8")]
    Empty,
    /// Not the canonical form, 36 characters with hyphens.
    #[error("is not a UUID in canonical form (36 characters, with hyphens)")]
    Malformed,
    /// The nil UUID means "none" on oVirt storage and never identifies anything.
    #[error("is the nil UUID, which never names anything")]
    Nil,
}

/// Bytes of the canonical form.
const TEXT_BYTES: usize = 36;

/// Parses only the canonical form: we accept what we print, so an id has one spelling in file names, logs and
/// databases.
fn parse(text: &str) -> Result<Uuid, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    let canonical = text.len() == TEXT_BYTES && !text.bytes().any(|b| b.is_ascii_uppercase());
    let uuid = Uuid::try_parse(text)
        .ok()
        .filter(|_| canonical)
        .ok_or(IdError::Malformed)?;
    if uuid.is_nil() {
        Err(IdError::Nil)
    } else {
        Ok(uuid)
    }
}

/// An id as a person or another program may write it: the canonical form, in lower or upper case. If ids are names,
/// as on storage, only the canonical form is accepted ([`FromStr`]).
///
/// # Errors
/// [`IdError`].
pub fn in_any_case<T: FromStr<Err = IdError>>(text: &str) -> Result<T, IdError> {
    match text.len() {
        TEXT_BYTES => text.to_ascii_lowercase().parse(),
        _ => text.parse(),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to be such an id.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// The 16 bytes, as in keys of the database.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// From the 16 bytes of a key.
            ///
            /// # Errors
            /// [`IdError::Malformed`] unless there are exactly 16 of them.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| IdError::Malformed)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

ids! {
    /// One storage operation on a host. Chosen by the caller.
    TaskId;
    /// What a user asked for, or a part of it.
    CommandId;
    /// A host: a machine that runs `vdsm-svc`.
    HostId;
    /// A storage domain.
    DomainId;
    /// A host's image: the directory that holds the volumes of one disk.
    ImageId;
    /// One volume of an image.
    VolumeId;
    /// An engine's disk. On the host it is the image of the same id.
    DiskId;
    /// A virtual machine.
    VmId;
    /// An engine, the one owner of a host.
    EngineId;
    /// A data directory, generated when it is created: another id means other records.
    StoreId;
    /// Identifies a mutating request, so that a repeat is recognized.
    RequestId;
    /// One start of an engine, distinct from every other start, including those on a copy of its data directory.
    Incarnation;
}

impl DiskId {
    /// The image that holds this disk on its host.
    pub const fn image(self) -> ImageId {
        ImageId(self.0)
    }
}

impl ImageId {
    /// The disk that the engine keeps in this image.
    pub const fn disk(self) -> DiskId {
        DiskId(self.0)
    }
}

/// The namespace of ids that are derived from a command's id.
const CHILD_NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_3a52_0d4e_4b6a_9b7e_5f2d_7a10_c4e1);

impl CommandId {
    /// The id of a child: a function of the parent's id and the child's place, so that planning twice (after a
    /// crash, or for a repeat) gives the same child and never an orphan.
    pub fn child(self, place: &str) -> CommandId {
        CommandId(derive(self.0, "command", place))
    }

    /// The id of a task of this command, by its place in the command.
    pub fn task(self, place: &str) -> TaskId {
        TaskId(derive(self.0, "task", place))
    }

    /// The id of a volume that this command creates, if the caller gave none.
    pub fn volume(self, place: &str) -> VolumeId {
        VolumeId(derive(self.0, "volume", place))
    }

    /// The id of a disk that this command creates, if the caller gave none.
    pub fn disk(self, place: &str) -> DiskId {
        DiskId(derive(self.0, "disk", place))
    }
}

fn derive(parent: Uuid, kind: &str, place: &str) -> Uuid {
    Uuid::new_v5(&CHILD_NAMESPACE, format!("{parent}/{kind}/{place}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn an_id_prints_as_it_was_read() {
        assert_eq!(TEXT.parse::<TaskId>().unwrap().to_string(), TEXT);
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        for (text, error) in [
            ("", IdError::Empty),
            ("00000000-0000-0000-0000-000000000000", IdError::Nil),
            ("6BA7B810-9DAD-41D1-80B4-00C04FD430C8", IdError::Malformed),
            ("6ba7b8109dad41d180b400c04fd430c8", IdError::Malformed),
            ("{6ba7b810-9dad-41d1-80b4-00c04fd430c8}", IdError::Malformed),
            ("../../etc/passwd", IdError::Malformed),
            ("6ba7b810-9dad-41d1-80b4-00c04fd430c8\n", IdError::Malformed),
        ] {
            assert_eq!(text.parse::<VolumeId>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn in_a_request_capitals_make_no_other_id() {
        let capitals = TEXT.to_ascii_uppercase();
        assert_eq!(in_any_case::<TaskId>(&capitals), TEXT.parse());
        assert_eq!(in_any_case::<TaskId>(TEXT), TEXT.parse());
        for other in [
            "",
            "6BA7B8109DAD41D180B400C04FD430C8",
            "İBA7B810-9DAD-41D1-80B4-00C04FD430C8",
        ] {
            assert!(in_any_case::<TaskId>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn children_are_derived_from_the_parent_and_the_place() {
        let parent = CommandId::from_uuid(Uuid::from_u128(7));
        assert_eq!(parent.child("disk/0"), parent.child("disk/0"));
        assert_ne!(parent.child("disk/0"), parent.child("disk/1"));
        assert_ne!(parent.child("a").as_uuid(), parent.task("a").as_uuid());
    }
}

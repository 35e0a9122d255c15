//! The parameters of commands: one file per kind, with the request if a client can request that kind. Their plans are
//! in `plan/verbs`, in a file with the same name.

mod add_host;
mod attach_disk;
mod copy_disk;
mod copy_image;
mod create_disk;
mod create_image;
mod create_storage_domain;
mod create_vm;
mod detach_disk;
mod extend_disk;
mod remove_all_vm_images;
mod remove_disk;
mod remove_host;
mod remove_image;
mod remove_vm;
mod take_over_host;

use common::id::HostId;

pub use add_host::AddHost;
pub use attach_disk::AttachDisk;
pub use copy_disk::{CopyDisk, CopyDiskRequest};
pub use copy_image::CopyImage;
pub use create_disk::CreateDisk;
pub use create_image::CreateImage;
pub use create_storage_domain::CreateStorageDomain;
pub use create_vm::{CreateVm, CreateVmRequest};
pub use detach_disk::DetachDisk;
pub use extend_disk::{ExtendDisk, ExtendDiskRequest};
pub use remove_all_vm_images::RemoveAllVmImages;
pub use remove_disk::RemoveDisk;
pub use remove_host::RemoveHost;
pub use remove_image::RemoveImage;
pub use remove_vm::{RemoveVm, RemoveVmRequest};
pub use take_over_host::TakeOverHost;

use super::EntityKey;

/// The properties of a command that follow from its parameters, whatever its state.
///
/// A method has a default only if that is right for most kinds.
pub trait CommandParameters {
    /// The entity that the command is about.
    fn entity(&self) -> EntityKey;

    /// All entities that the command is listed under; the one that it is about comes first.
    fn entities(&self) -> Vec<EntityKey> {
        vec![self.entity()]
    }

    /// What the command does, in a line for people.
    fn describe(&self) -> String;

    /// Whether the command creates the entity that it is about.
    fn makes(&self) -> bool;

    /// The length of the client's texts in it, in bytes: everything whose size is not bounded by its kind.
    fn text_bytes(&self) -> usize;

    /// The capacity of the disk that the command itself works on, in bytes: its weight in the progress of its job. 0
    /// for a command that works by its parts, or on no disk.
    fn bytes(&self) -> u64 {
        0
    }

    /// The host that the command itself calls; none for a command that works by tasks, by its parts, or on the
    /// inventory alone.
    fn called_host(&self) -> Option<HostId> {
        None
    }

    /// Whether it takes a host over from whoever has the host.
    fn takes_over(&self) -> bool {
        false
    }
}

/// A command that a client can request.
pub trait Requested {
    /// The request: what cannot be derived from the state.
    type Request;

    /// The request of a recorded command.
    fn request(&self) -> Self::Request;
}

macro_rules! define {
    (
        roots { $($root:ident $ends:tt;)* }
        parts { $($part:ident;)* }
    ) => {
        /// The parameters of a command of any kind.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Parameters {
            $(#[doc = concat!("See [`", stringify!($root), "`].")]
            $root($root),)*
            $(#[doc = concat!("See [`", stringify!($part), "`].")]
            $part($part),)*
        }

        /// The kinds of commands, without their parameters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CommandKind {
            $(#[doc = concat!("See [`", stringify!($root), "`].")]
            $root,)*
            $(#[doc = concat!("See [`", stringify!($part), "`].")]
            $part,)*
        }

        impl CommandKind {
            /// Every kind: those that a client can request, then those that are only parts of others.
            pub const ALL: &'static [Self] = &[$(Self::$root,)* $(Self::$part,)*];

            /// The kind's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$root => stringify!($root),)*
                    $(Self::$part => stringify!($part),)*
                }
            }

            /// Whether a client can request a command of this kind; the others are only parts.
            pub const fn is_root(self) -> bool {
                match self {
                    $(Self::$root => true,)*
                    $(Self::$part => false,)*
                }
            }
        }

        impl Parameters {
            /// The kind of the command.
            pub const fn kind(&self) -> CommandKind {
                match self {
                    $(Self::$root(_) => CommandKind::$root,)*
                    $(Self::$part(_) => CommandKind::$part,)*
                }
            }

            fn own(&self) -> &dyn CommandParameters {
                match self {
                    $(Self::$root(p) => p,)*
                    $(Self::$part(p) => p,)*
                }
            }
        }

        /// A validated request of a client.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum CommandRequest {
            $(#[doc = concat!("See [`", stringify!($root), "`].")]
            $root(<$root as Requested>::Request),)*
        }

        impl CommandRequest {
            /// The kind of the command that it becomes.
            pub const fn kind(&self) -> CommandKind {
                match self {
                    $(Self::$root(_) => CommandKind::$root,)*
                }
            }
        }

        $(impl From<$root> for Parameters {
            fn from(parameters: $root) -> Self {
                Self::$root(parameters)
            }
        })*

        $(impl From<$part> for Parameters {
            fn from(parameters: $part) -> Self {
                Self::$part(parameters)
            }
        })*
    };
}

crate::commands!(define);

impl CommandParameters for Parameters {
    fn entity(&self) -> EntityKey {
        self.own().entity()
    }

    fn entities(&self) -> Vec<EntityKey> {
        self.own().entities()
    }

    fn describe(&self) -> String {
        self.own().describe()
    }

    fn makes(&self) -> bool {
        self.own().makes()
    }

    fn text_bytes(&self) -> usize {
        self.own().text_bytes()
    }

    fn bytes(&self) -> u64 {
        self.own().bytes()
    }

    fn called_host(&self) -> Option<HostId> {
        self.own().called_host()
    }

    fn takes_over(&self) -> bool {
        self.own().takes_over()
    }
}

//! The file layer. All changes of storage go through a [`Dir`], so that one hook sees every create, sync, rename and
//! unlink in order, and no path is ever followed through a symlink or out of the root.

mod change;
mod dir;
mod error;
mod file_id;
mod hook;
mod identity;

pub use dir::{Dir, Entry, Kind};
pub(crate) use dir::{DirContext, Modes};
pub use error::FileError;
pub(crate) use error::{LIMIT_ADVICE, WrongKind, kind_in_words};
pub(crate) use file_id::{FileId, mount_of};
pub use hook::{FileCall, FileHook, NoHook};
pub use identity::Identity;

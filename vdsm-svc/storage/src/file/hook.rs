//! A place to look at, or to break, every change that is made to storage.

use std::io;
use std::path::Path;

/// A call that changes storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileCall {
    /// A directory is made.
    CreateDir,
    /// A file is made.
    CreateFile,
    /// Bytes are written into a file.
    Write,
    /// Space is taken for a file.
    Allocate,
    /// A file is synced.
    SyncFile,
    /// A directory is synced.
    SyncDir,
    /// Something is renamed; the path is the new one.
    Rename,
    /// A file is unlinked.
    Unlink,
    /// A directory is removed.
    RemoveDir,
}

/// Sees every change before and after it is made. Tests record the order, count kill points and inject errors.
pub trait FileHook: Send + Sync {
    /// Before the call. The path is relative to the storage root.
    ///
    /// # Errors
    /// An error takes the call's place: it is not made.
    fn before(&self, _call: FileCall, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// After the call succeeded.
    fn after(&self, _call: FileCall, _path: &Path) {}
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHook;

impl FileHook for NoHook {}

//! A hook to observe or to break every change of storage.

use std::io;
use std::path::Path;

/// A call that changes storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileCall {
    /// A directory is created.
    CreateDir,
    /// A file is created.
    CreateFile,
    /// Bytes are written into a file.
    Write,
    /// Space is allocated for a file.
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
    /// If the hook returns an error, the call is not made and returns that error.
    fn before(&self, _call: FileCall, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// After the call has succeeded.
    fn after(&self, _call: FileCall, _path: &Path) {}
}

/// A hook that does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHook;

impl FileHook for NoHook {}

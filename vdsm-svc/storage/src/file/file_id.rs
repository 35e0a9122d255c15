//! Identifies the file that a handle or a name leads to, while this process runs.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, StatxFlags, fstat, stat, statx};
use rustix::io::Errno;

/// A directory or file, identified by device and inode. An open handle keeps its inode from being reused, so a name
/// with the same id as an open handle leads to the same file. It proves nothing else, and is not valid after a
/// reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Stat> for FileId {
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

impl FileId {
    /// The id of an open file.
    pub(crate) fn of(handle: impl AsFd) -> rustix::io::Result<Self> {
        Ok(Self::from(&fstat(handle)?))
    }

    /// Whether both are on the same device.
    pub(crate) const fn is_beside(self, other: Self) -> bool {
        self.device == other.device
    }

    /// The id of the directory that a path leads to, following links; none if there is none.
    pub(crate) fn of_directory(path: &Path) -> rustix::io::Result<Option<Self>> {
        match stat(path) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Ok(Some(Self::from(&stat)))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The mount that a handle or a path goes through; none if the kernel does not tell (before 5.8). The same directory
/// may be remounted: then an old handle keeps the old mount busy.
pub(crate) fn mount_of(at: impl AsFd, path: &Path) -> Option<u64> {
    let found = statx(at, path, AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

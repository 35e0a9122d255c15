//! Where a handle or a name leads, for as long as this process runs.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, StatxFlags, fstat, stat, statx};
use rustix::io::Errno;

/// A directory or file by its device and inode. An open handle keeps its inode from being given away, so a name whose
/// file_id equals that of an open handle leads to the same thing. Nothing else is proven by it, and it outlives no boot.
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
    /// Of an open handle.
    pub(crate) fn of(handle: impl AsFd) -> rustix::io::Result<Self> {
        Ok(Self::from(&fstat(handle)?))
    }

    /// Whether both are on one device.
    pub(crate) const fn is_beside(self, other: Self) -> bool {
        self.device == other.device
    }

    /// Of the directory that a path leads to, links followed; none if it leads to none.
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

/// The mount through which a handle or a path leads to what it leads to; none where the kernel does not tell (before
/// 5.8). The same directory may be mounted anew: then an old handle keeps the old mount busy.
pub(crate) fn mount_of(at: impl AsFd, path: &Path) -> Option<u64> {
    let found = statx(at, path, AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

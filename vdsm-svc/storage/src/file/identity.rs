//! The persistent identity of a file: how an operation recognizes what it created.

use std::fmt;
use std::os::fd::AsFd;
use std::str::FromStr;

use rustix::fs::{AtFlags, StatxFlags, statx};

/// A file's or directory's identity within its file system: the inode and its time of birth, so that a reused inode
/// number is not taken for the old file.
///
/// The device number is left out on purpose: it may change with a reboot (loop, NFS, btrfs), and a domain never
/// spans file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    inode: u64,
    /// Zero if the file system records none.
    born_ns: i128,
}

impl Identity {
    /// The identity of `name` in an open directory; the empty name is the directory itself. Symlinks are not followed.
    pub(crate) fn of(dir: impl AsFd, name: &std::ffi::OsStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let found = statx(dir, name, flags, StatxFlags::INO | StatxFlags::BTIME)?;
        let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = i128::from(found.stx_btime.tv_sec) * 1_000_000_000 + i128::from(found.stx_btime.tv_nsec);
        Ok(Self {
            inode: found.stx_ino,
            born_ns: if has_birth { born } else { 0 },
        })
    }
}

impl Identity {
    /// The identity of an open file, independent of its name.
    pub(crate) fn of_open(file: impl AsFd) -> rustix::io::Result<Self> {
        Self::of(file, std::ffi::OsStr::new(""))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.inode, self.born_ns)
    }
}

/// A text that is not an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a file's identity")]
pub struct IdentityError;

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let (inode, born) = text.split_once('@').ok_or(IdentityError)?;
        Ok(Self {
            inode: inode.parse().map_err(|_| IdentityError)?,
            born_ns: born.parse().map_err(|_| IdentityError)?,
        })
    }
}

//! The calls that change storage: each one runs the hook before and after.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{self as sys, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::dir::Result;
use super::{Dir, FileCall, Kind};

/// The number of entries that are listed at a time when all are removed.
const AT_ONCE: usize = 1_024;

/// The prefix, before a number, of directories that a purge moves up.
const MOVED_UP: &str = ".vdsm-purged-";

impl Dir {
    /// Creates a directory in it, with oVirt's mode and owner.
    ///
    /// # Errors
    /// [`super::FileError::is_taken`] if the name is taken.
    pub fn create_dir(&self, name: impl AsRef<OsStr>) -> Result<Dir> {
        let name = name.as_ref();
        let mode = self.context.modes.dir;
        self.change(FileCall::CreateDir, "make the directory", name, || {
            Ok(sys::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))?)
        })?;
        let made = self
            .dir(name)?
            .ok_or_else(|| self.error("open the directory", name, io::ErrorKind::NotFound.into()))?;
        self.dress(&made.fd, mode)
            .map_err(|e| self.error("set the owner of", name, e))?;
        Ok(made)
    }

    /// Creates a new, empty file in it, with oVirt's mode and owner.
    ///
    /// # Errors
    /// [`super::FileError::is_taken`] if the name is taken, even by a dangling symlink.
    pub fn create_file(&self, name: impl AsRef<OsStr>) -> Result<File> {
        let (name, mode) = (name.as_ref(), self.context.modes.file);
        self.change(FileCall::CreateFile, "create", name, || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(sys::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))?);
            self.dress(&file, mode)?;
            Ok(file)
        })
    }

    fn dress(&self, fd: impl AsFd, mode: u32) -> io::Result<()> {
        sys::fchmod(&fd, Mode::from_raw_mode(mode))?;
        if let Some((uid, gid)) = self.context.owner {
            sys::fchown(&fd, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Writes all of `bytes` at the file's position. `name` is for the hook and for messages.
    pub(crate) fn write(&self, name: &str, mut file: &File, bytes: &[u8]) -> Result<()> {
        self.change(FileCall::Write, "write", name.as_ref(), || file.write_all(bytes))
    }

    /// Writes all of `bytes` at an offset.
    pub(crate) fn write_at(&self, name: &str, file: &File, bytes: &[u8], at: u64) -> Result<()> {
        self.change(FileCall::Write, "write", name.as_ref(), || {
            file.write_all_at(bytes, at)
        })
    }

    /// Sets the length of a file; new space is a hole.
    pub(crate) fn set_len(&self, name: &str, file: &File, bytes: u64) -> Result<()> {
        self.change(FileCall::Write, "resize", name.as_ref(), || file.set_len(bytes))
    }

    /// Allocates space for a range of a file, and extends the file if necessary.
    pub(crate) fn allocate(&self, name: &str, file: &File, offset: u64, bytes: u64) -> Result<()> {
        self.change(FileCall::Allocate, "allocate", name.as_ref(), || {
            Ok(sys::fallocate(file, FallocateFlags::empty(), offset, bytes)?)
        })
    }

    /// Makes a file's bytes and size durable.
    ///
    /// # Errors
    /// Of the file system. It must not be retried: the second call may succeed although data is lost.
    pub fn sync_file(&self, name: impl AsRef<OsStr>, file: &File) -> Result<()> {
        self.change(FileCall::SyncFile, "sync", name.as_ref(), || file.sync_all())
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// As [`Dir::sync_file`].
    pub fn sync(&self) -> Result<()> {
        self.change(FileCall::SyncDir, "sync", OsStr::new(""), || {
            Ok(sys::fsync(&self.fd)?)
        })
    }

    /// Renames within the directory, replacing the target.
    pub(crate) fn rename_over(&self, from: &str, to: &str) -> Result<()> {
        self.change(FileCall::Rename, "rename to", to.as_ref(), || {
            Ok(sys::renameat(&self.fd, from, &self.fd, to)?)
        })
    }

    /// Renames within the directory.
    ///
    /// # Errors
    /// [`super::FileError::is_taken`] if the new name is taken.
    pub fn rename_new(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.change(FileCall::Rename, "rename to", to, || {
            match sys::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
                // The file system cannot do it atomically (FUSE, NFS): the caller's lock keeps our other tasks away.
                Err(Errno::INVAL) => self.rename_if_free(from, to),
                done => Ok(done?),
            }
        })
    }

    fn rename_if_free(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match sys::statat(&self.fd, to, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(sys::renameat(&self.fd, from, &self.fd, to)?),
            Err(e) => Err(e.into()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Unlinks a file. A missing file is no error.
    ///
    /// # Errors
    /// Of the file system.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.remove(FileCall::Unlink, name.as_ref(), AtFlags::empty())
    }

    /// Removes an empty directory. A missing directory is no error.
    ///
    /// # Errors
    /// Of the file system, in particular if it is not empty.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.remove(FileCall::RemoveDir, name.as_ref(), AtFlags::REMOVEDIR)
    }

    fn remove(&self, call: FileCall, name: &OsStr, flags: AtFlags) -> Result<()> {
        if self.stat(name)?.is_none() {
            return Ok(());
        }
        self.change(call, "remove", name, || {
            match sys::unlinkat(&self.fd, name, flags) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e.into()),
            }
        })
    }

    /// Removes everything in it; symlinks are removed, not followed. Whatever its depth and size, this takes a few
    /// open directories and part of the list at a time: deeper directories are moved up first.
    pub(crate) fn purge(&self) -> Result<()> {
        let mut moved = 0;
        loop {
            let some = self.some_entries(AT_ONCE, &|_| true)?;
            if some.is_empty() {
                return Ok(());
            }
            for entry in some {
                if entry.kind != Kind::Dir {
                    self.unlink(&entry.name)?;
                } else {
                    if let Some(dir) = self.dir(&entry.name)? {
                        self.empty(&dir, &mut moved)?;
                    }
                    self.remove_dir(&entry.name)?;
                }
            }
        }
    }

    /// Empties a directory in it: unlinks its files and moves its directories up.
    fn empty(&self, dir: &Dir, moved: &mut u64) -> Result<()> {
        loop {
            let some = dir.some_entries(AT_ONCE, &|_| true)?;
            if some.is_empty() {
                return Ok(());
            }
            for entry in some {
                if entry.kind == Kind::Dir {
                    self.take_up(dir, &entry.name, moved)?;
                } else {
                    dir.unlink(&entry.name)?;
                }
            }
        }
    }

    /// Moves a directory up one level, under a free name.
    fn take_up(&self, from: &Dir, name: &OsStr, moved: &mut u64) -> Result<()> {
        loop {
            *moved += 1;
            let free = format!("{MOVED_UP}{moved}");
            if self.stat(&free)?.is_some() {
                continue;
            }
            return self.change(FileCall::Rename, "move up to", free.as_ref(), || {
                Ok(sys::renameat(&from.fd, name, &self.fd, &free)?)
            });
        }
    }

    /// The only way to change something: the hook before, the call, the hook after.
    fn change<T>(
        &self,
        call: FileCall,
        action: &'static str,
        name: &OsStr,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let path = self.child_path(name);
        let hook = &self.context.hook;
        let done = hook.before(call, &path).and_then(|()| work());
        let value = done.map_err(|e| self.error(action, name, e))?;
        hook.after(call, &path);
        Ok(value)
    }
}

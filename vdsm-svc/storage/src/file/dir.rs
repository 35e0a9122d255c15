//! An open directory. Names are single components; nothing below is reached by a path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self as sys, AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};

use super::{FileCall, FileError, FileHook, Identity};

/// Mode of directories, as VDSM makes them.
const DIR_MODE: u32 = 0o775;

/// Mode of files, as VDSM makes them.
const FILE_MODE: u32 = 0o660;

/// How much is read of a file of text at most: metadata is far smaller, and nobody fills our memory.
const TEXT_LIMIT_BYTES: u64 = 64 << 10;

type Result<T> = std::result::Result<T, FileError>;

/// What all directories of one root share.
pub(crate) struct Layer {
    pub(crate) hook: Arc<dyn FileHook>,
    /// Who owns what is made; none to leave it to whoever we are.
    pub(crate) owner: Option<(Uid, Gid)>,
}

/// An open directory below the storage root.
#[derive(Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    layer: Arc<Layer>,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink, FIFO, socket or device.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

impl Kind {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            _ => Self::Other,
        }
    }
}

impl Dir {
    /// Opens the root itself, the one place where a path of the configuration is followed.
    pub(crate) fn open_root(path: &Path, layer: Arc<Layer>) -> Result<Self> {
        let fd = sys::open(path, dir_flags() - OFlags::NOFOLLOW, Mode::empty()).map_err(|e| FileError {
            action: "open",
            path: path.to_owned(),
            source: e.into(),
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: PathBuf::new(),
            layer,
        })
    }

    /// Where it is, relative to the storage root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path to this very directory that a child may take as its working directory.
    pub(crate) fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Opens a directory in it; none if there is nothing of that name.
    ///
    /// # Errors
    /// Symlinks and files are refused.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> Result<Option<Dir>> {
        let name = name.as_ref();
        match sys::openat(&self.fd, name, dir_flags(), Mode::empty()) {
            Ok(fd) => Ok(Some(Dir {
                fd: Arc::new(fd),
                path: self.path.join(name),
                layer: self.layer.clone(),
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("open the directory", name, e.into())),
        }
    }

    /// Everything in it, sorted by name.
    ///
    /// # Errors
    /// Of the file system.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let fail = |e: rustix::io::Errno| self.error("list", OsStr::new(""), e.into());
        let mut found = Vec::new();
        for item in sys::Dir::read_from(&self.fd).map_err(fail)? {
            let item = item.map_err(fail)?;
            let bytes = item.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let name = OsStr::from_bytes(bytes).to_owned();
            // What vanishes while it is being listed is not there.
            if let Some(stat) = self.stat(&name)? {
                found.push(Entry {
                    name,
                    kind: Kind::of(&stat),
                });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// What stands under a name, a symlink not followed.
    ///
    /// # Errors
    /// Of the file system; not for what is missing.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        Ok(self.stat(name.as_ref())?.map(|stat| Kind::of(&stat)))
    }

    /// The file's status, a symlink not followed; none if it is missing.
    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
        let name = name.as_ref();
        match sys::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("look at", name, e.into())),
        }
    }

    /// Which file or directory stands under a name; none if it is missing.
    ///
    /// # Errors
    /// Of the file system.
    pub fn identity(&self, name: impl AsRef<OsStr>) -> Result<Option<Identity>> {
        let name = name.as_ref();
        match Identity::of(&self.fd, name) {
            Ok(identity) => Ok(Some(identity)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("look at", name, e.into())),
        }
    }

    /// Opens a regular file for reading; none if it is missing.
    ///
    /// # Errors
    /// What is no regular file is refused, without opening it: a FIFO would block, a device would act.
    pub fn file(&self, name: impl AsRef<OsStr>) -> Result<Option<File>> {
        self.open_regular(name.as_ref(), OFlags::RDONLY)
    }

    /// As [`Dir::file`], for reading and writing.
    ///
    /// # Errors
    /// As [`Dir::file`].
    pub fn file_for_writing(&self, name: impl AsRef<OsStr>) -> Result<Option<File>> {
        self.open_regular(name.as_ref(), OFlags::RDWR)
    }

    /// As [`Dir::file`], past the page cache.
    pub(crate) fn file_direct(&self, name: &str) -> Result<Option<File>> {
        self.open_regular(name.as_ref(), OFlags::RDONLY | OFlags::DIRECT)
    }

    fn open_regular(&self, name: &OsStr, how: OFlags) -> Result<Option<File>> {
        match self.kind(name)? {
            None => return Ok(None),
            Some(Kind::File) => {}
            Some(_) => return Err(self.not_regular(name)),
        }
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match sys::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.error("open", name, e.into())),
        };
        let stat = sys::fstat(&file).map_err(|e| self.error("look at", name, e.into()))?;
        match Kind::of(&stat) {
            Kind::File => Ok(Some(file)),
            _ => Err(self.not_regular(name)),
        }
    }

    /// Reads a small file of text; none if it is missing. A stale NFS handle is opened once more.
    ///
    /// # Errors
    /// Of the file system; what is not UTF-8 or far too long is [`io::ErrorKind::InvalidData`].
    pub fn read_text(&self, name: &str) -> Result<Option<String>> {
        match self.read_text_once(name) {
            Err(e) if e.is_stale() => self.read_text_once(name),
            done => done,
        }
    }

    fn read_text_once(&self, name: &str) -> Result<Option<String>> {
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(TEXT_LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| self.error("read", name.as_ref(), e))?;
        let text = String::from_utf8(bytes)
            .ok()
            .filter(|t| t.len() as u64 <= TEXT_LIMIT_BYTES);
        match text {
            Some(text) => Ok(Some(text)),
            None => Err(self.error("read", name.as_ref(), io::ErrorKind::InvalidData.into())),
        }
    }

    /// Makes a directory in it, with oVirt's mode and owner.
    ///
    /// # Errors
    /// [`FileError::is_taken`] if there is something of that name.
    pub fn create_dir(&self, name: impl AsRef<OsStr>) -> Result<Dir> {
        let name = name.as_ref();
        self.change(FileCall::CreateDir, "make the directory", name, || {
            Ok(sys::mkdirat(&self.fd, name, Mode::from_raw_mode(DIR_MODE))?)
        })?;
        let made = self
            .dir(name)?
            .ok_or_else(|| self.error("open the directory", name, io::ErrorKind::NotFound.into()))?;
        self.dress(&made.fd, DIR_MODE)
            .map_err(|e| self.error("set the owner of", name, e))?;
        Ok(made)
    }

    /// Makes an empty file in it that was not there, with oVirt's mode and owner.
    ///
    /// # Errors
    /// [`FileError::is_taken`] if there is something of that name, a dangling symlink included.
    pub fn create_file(&self, name: impl AsRef<OsStr>) -> Result<File> {
        let name = name.as_ref();
        self.change(FileCall::CreateFile, "create", name, || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(sys::openat(
                &self.fd,
                name,
                flags,
                Mode::from_raw_mode(FILE_MODE),
            )?);
            self.dress(&file, FILE_MODE)?;
            Ok(file)
        })
    }

    fn dress(&self, fd: impl AsFd, mode: u32) -> io::Result<()> {
        sys::fchmod(&fd, Mode::from_raw_mode(mode))?;
        if let Some((uid, gid)) = self.layer.owner {
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

    /// Makes a file this long, with a hole for what is new.
    pub(crate) fn set_len(&self, name: &str, file: &File, bytes: u64) -> Result<()> {
        self.change(FileCall::Write, "resize", name.as_ref(), || file.set_len(bytes))
    }

    /// Takes space for a range of a file, which grows to hold it.
    pub(crate) fn allocate(&self, name: &str, file: &File, offset: u64, bytes: u64) -> Result<()> {
        self.change(FileCall::Allocate, "allocate", name.as_ref(), || {
            Ok(sys::fallocate(file, FallocateFlags::empty(), offset, bytes)?)
        })
    }

    /// Makes a file's bytes and size durable.
    ///
    /// # Errors
    /// Of the file system. It must not be tried again: the second time may say yes to bytes that are lost.
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

    /// Renames within the directory, replacing what is there.
    pub(crate) fn rename_over(&self, from: &str, to: &str) -> Result<()> {
        self.change(FileCall::Rename, "rename to", to.as_ref(), || {
            Ok(sys::renameat(&self.fd, from, &self.fd, to)?)
        })
    }

    /// Renames within the directory.
    ///
    /// # Errors
    /// [`FileError::is_taken`] if there is something under the new name.
    pub fn rename_new(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.change(FileCall::Rename, "rename to", to, || {
            Ok(sys::renameat_with(
                &self.fd,
                from,
                &self.fd,
                to,
                RenameFlags::NOREPLACE,
            )?)
        })
    }

    /// Unlinks a file. What is not there is done.
    ///
    /// # Errors
    /// Of the file system.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.remove(FileCall::Unlink, name.as_ref(), AtFlags::empty())
    }

    /// Removes an empty directory. What is not there is done.
    ///
    /// # Errors
    /// Of the file system, above all that it is not empty.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.remove(FileCall::RemoveDir, name.as_ref(), AtFlags::REMOVEDIR)
    }

    fn remove(&self, call: FileCall, name: &OsStr, flags: AtFlags) -> Result<()> {
        if self.stat(name)?.is_none() {
            return Ok(());
        }
        self.change(call, "remove", name, || {
            match sys::unlinkat(&self.fd, name, flags) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
                Err(e) => Err(e.into()),
            }
        })
    }

    /// Removes everything in it, whatever it is; symlinks are removed, not followed.
    pub(crate) fn purge(&self) -> Result<()> {
        for entry in self.entries()? {
            if entry.kind == Kind::Dir {
                if let Some(dir) = self.dir(&entry.name)? {
                    dir.purge()?;
                }
                self.remove_dir(&entry.name)?;
            } else {
                self.unlink(&entry.name)?;
            }
        }
        Ok(())
    }

    /// The one way to change something: the hook before, the call, the hook after.
    fn change<T>(
        &self,
        call: FileCall,
        action: &'static str,
        name: &OsStr,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let path = self.child_path(name);
        let hook = &self.layer.hook;
        let done = hook.before(call, &path).and_then(|()| work());
        let value = done.map_err(|e| self.error(action, name, e))?;
        hook.after(call, &path);
        Ok(value)
    }

    fn child_path(&self, name: &OsStr) -> PathBuf {
        if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        }
    }

    pub(crate) fn error(&self, action: &'static str, name: &OsStr, source: io::Error) -> FileError {
        FileError {
            action,
            path: self.child_path(name),
            source,
        }
    }

    fn not_regular(&self, name: &OsStr) -> FileError {
        // The same error as for opening a symlink: the fault made of it is NOT_A_REGULAR_FILE.
        self.error("open as a regular file", name, rustix::io::Errno::LOOP.into())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

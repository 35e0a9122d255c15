//! Reading from an open directory. Names are single components; no path is ever resolved below it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self as sys, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::{FileError, FileHook, FileId, Identity, NoHook, WrongKind};
use crate::text;

pub(super) type Result<T> = std::result::Result<T, FileError>;

/// What all directories of one root share.
pub(crate) struct DirContext {
    pub(crate) hook: Arc<dyn FileHook>,
    /// The owner of what is created; none for the service's own user.
    pub(crate) owner: Option<(Uid, Gid)>,
    /// The modes of what is created.
    pub(crate) modes: Modes,
}

/// The modes of directories and files that are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) dir: u32,
    pub(crate) file: u32,
}

impl Modes {
    /// As VDSM creates them.
    pub(crate) const OVIRT: Self = Self {
        dir: 0o775,
        file: 0o660,
    };

    /// Accessible only to the service's user.
    pub(crate) const PRIVATE: Self = Self {
        dir: 0o700,
        file: 0o600,
    };
}

/// An open directory below the storage root.
#[derive(Clone)]
pub struct Dir {
    pub(super) fd: Arc<OwnedFd>,
    path: PathBuf,
    pub(super) context: Arc<DirContext>,
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink, FIFO, socket or device.
    Other,
}

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Its kind.
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
    /// Opens the root itself: the only place where a configured path is followed.
    pub(crate) fn open_root(path: &Path, context: Arc<DirContext>) -> Result<Self> {
        let fd = sys::open(path, dir_flags() - OFlags::NOFOLLOW, Mode::empty()).map_err(|e| FileError {
            action: "open",
            path: path.to_owned(),
            source: e.into(),
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: PathBuf::new(),
            context,
        })
    }

    /// Opens a private directory of the service outside of storage: nobody else may read it.
    ///
    /// # Errors
    /// Refuses a link, a file, and a directory that belongs to another user.
    pub(crate) fn open_private(path: &Path) -> Result<Option<Self>> {
        let fail = |source| FileError {
            action: "open",
            path: path.to_owned(),
            source,
        };
        let fd = match sys::open(path, dir_flags(), Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(fail(e.into())),
        };
        let stat = sys::fstat(&fd).map_err(|e| fail(e.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(fail(io::Error::from(rustix::io::Errno::PERM)));
        }
        if stat.st_mode & 0o077 != 0 {
            sys::fchmod(&fd, Mode::from_raw_mode(Modes::PRIVATE.dir)).map_err(|e| fail(e.into()))?;
        }
        let context = DirContext {
            hook: Arc::new(NoHook),
            owner: None,
            modes: Modes::PRIVATE,
        };
        Ok(Some(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
            context: Arc::new(context),
        }))
    }

    /// Its path relative to the storage root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory in it; none if it does not exist.
    ///
    /// # Errors
    /// Symlinks and files are refused.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> Result<Option<Dir>> {
        let name = name.as_ref();
        match sys::openat(&self.fd, name, dir_flags(), Mode::empty()) {
            Ok(fd) => Ok(Some(Dir {
                fd: Arc::new(fd),
                path: self.path.join(name),
                context: self.context.clone(),
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            // The kernel's error does not say what it is.
            Err(e @ (rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR)) => Err(match self.stat(name)? {
                None => self.error("open the directory", name, e.into()),
                Some(stat) => self.wrong_kind("open the directory", name, &stat, "directory"),
            }),
            Err(e) => Err(self.error("open the directory", name, e.into())),
        }
    }

    /// All entries, sorted by name. For directories that we created; if others create entries, see `Dir::for_each`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.some_entries(usize::MAX, &|_| true)
    }

    /// At most this many of the selected entries, sorted by name.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn some_entries(&self, at_most: usize, wished: &dyn Fn(&Entry) -> bool) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        self.for_each(|entry| {
            if wished(&entry) {
                found.push(entry);
            }
            let more = found.len() < at_most;
            Ok::<_, FileError>(if more {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Visits one entry after the other, in no order, until `look` stops it; uses constant memory.
    ///
    /// # Errors
    /// Those of `look`, and of the file system.
    pub(crate) fn for_each<E: From<FileError>>(
        &self,
        mut look: impl FnMut(Entry) -> std::result::Result<ControlFlow<()>, E>,
    ) -> std::result::Result<(), E> {
        self.for_each_name(|name| {
            // An entry that disappears during the listing is skipped.
            let Some(stat) = self.stat(name)? else {
                return Ok(ControlFlow::Continue(()));
            };
            look(Entry {
                name: name.to_owned(),
                kind: Kind::of(&stat),
            })
        })
    }

    /// As [`Dir::for_each`], by name only.
    pub(crate) fn for_each_name<E: From<FileError>>(
        &self,
        mut look: impl FnMut(&OsStr) -> std::result::Result<ControlFlow<()>, E>,
    ) -> std::result::Result<(), E> {
        let fail = |e: rustix::io::Errno| self.error("list", OsStr::new(""), e.into());
        for item in sys::Dir::read_from(&self.fd).map_err(fail)? {
            let item = item.map_err(fail)?;
            let bytes = item.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            if look(OsStr::from_bytes(bytes))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The kind of an entry; a symlink is not followed.
    ///
    /// # Errors
    /// Of the file system; a missing entry is no error.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        Ok(self.stat(name.as_ref())?.map(|stat| Kind::of(&stat)))
    }

    /// The status of an entry; a symlink is not followed; none if it is missing.
    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
        let name = name.as_ref();
        match sys::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("look at", name, e.into())),
        }
    }

    /// The identity of the file or directory with a name; none if it is missing.
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

    /// The identity of this directory, independent of its name; it is valid longer than this process runs.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn own_identity(&self) -> Result<Identity> {
        Identity::of_open(&self.fd).map_err(|e| self.error("look at", OsStr::new(""), e.into()))
    }

    /// The directory that this handle leads to, independent of its name.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn file_id(&self) -> Result<FileId> {
        FileId::of(&self.fd).map_err(|e| self.error("look at", OsStr::new(""), e.into()))
    }

    /// What a name leads to now; a symlink is not followed; none if it is missing.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn file_id_of(&self, name: impl AsRef<OsStr>) -> Result<Option<FileId>> {
        Ok(self.stat(name)?.as_ref().map(FileId::from))
    }

    /// Opens a regular file for reading; none if it is missing.
    ///
    /// # Errors
    /// Anything but a regular file is refused without opening it: a FIFO would block, a device could have side effects.
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

    /// As [`Dir::file`], with direct I/O.
    pub(crate) fn file_direct(&self, name: &str) -> Result<Option<File>> {
        self.open_regular(name.as_ref(), OFlags::RDONLY | OFlags::DIRECT)
    }

    fn open_regular(&self, name: &OsStr, how: OFlags) -> Result<Option<File>> {
        match self.stat(name)? {
            None => return Ok(None),
            Some(stat) if Kind::of(&stat) != Kind::File => return Err(self.not_regular(name, &stat)),
            Some(_) => {}
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
            _ => Err(self.not_regular(name, &stat)),
        }
    }

    /// Reads a small file of text; none if it is missing. Invalid UTF-8 is replaced. At most one byte more than the
    /// maximum (`text::MAX_BYTES`) is read, so that the parser sees that the file is too long.
    ///
    /// # Errors
    /// Of the file system.
    pub fn read_text(&self, name: &str) -> Result<Option<String>> {
        let bytes = self.read_bytes(name)?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// As [`Dir::read_text`], as bytes. A stale NFS handle is opened once more.
    ///
    /// # Errors
    /// As [`Dir::read_text`].
    pub fn read_bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.read_bytes_once(name) {
            Err(e) if e.is_stale() => self.read_bytes_once(name),
            done => done,
        }
    }

    fn read_bytes_once(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(text::MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| self.error("read", name.as_ref(), e))?;
        Ok(Some(bytes))
    }

    pub(super) fn child_path(&self, name: &OsStr) -> PathBuf {
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

    fn not_regular(&self, name: &OsStr, stat: &Stat) -> FileError {
        self.wrong_kind("open", name, stat, "regular file")
    }

    fn wrong_kind(&self, action: &'static str, name: &OsStr, stat: &Stat, wanted: &'static str) -> FileError {
        let found = FileType::from_raw_mode(stat.st_mode);
        self.error(action, name, WrongKind { found, wanted }.into())
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

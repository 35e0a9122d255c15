//! Checks that the store's files are where the next start looks for them, and not truncated. Open files can be
//! written after their names are gone: everything that is acknowledged then would be lost with the process, silently.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Stat, fstat, stat, statat};
use rustix::io::Errno;

use crate::StoreError;
use crate::data_dir::{self, Access};

/// What is told before it is known where.
const BEING_SAVED: &str = "and is copied from there within seconds, if it can be: leave the service running until its log says where; no new work is accepted";

/// Only the service's user may read the saved files.
const SAVED_MODE: u32 = 0o700;

/// The number of names that are tried for the saved files.
const SAVED_TRIES: u32 = 1_000;

/// The data directory, by its name and by the files that were opened at startup.
#[derive(Debug)]
pub(super) struct NamedDir {
    name: PathBuf,
    dir: OpenFile,
    files: Vec<(&'static str, OpenFile)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is wrong, for people.
    lost: Option<String>,
    /// Everything that could be saved was saved.
    saved: bool,
    /// A file was truncated: its content is lost, whatever is written to it now.
    cut: Option<&'static str>,
}

/// Our own handle. It keeps the inode from being reused, so a name with an equal inode leads to the same file.
#[derive(Debug)]
struct OpenFile {
    file: File,
    inode: (u64, u64),
    /// The minimum length in bytes.
    least: i64,
}

impl OpenFile {
    fn of(file: File) -> io::Result<Self> {
        let inode = inode(&fstat(&file)?);
        let least = 0;
        Ok(Self { file, inode, least })
    }

    /// Whether its length never changes.
    fn of_fixed(file: File) -> io::Result<Self> {
        let least = fstat(&file)?.st_size;
        Ok(Self {
            least,
            ..Self::of(file)?
        })
    }

    fn is_cut(&self) -> bool {
        self.least > 0 && fstat(&self.file).is_ok_and(|stat| stat.st_size < self.least)
    }

    fn is(&self, found: rustix::io::Result<Stat>) -> bool {
        match found {
            Ok(stat) => inode(&stat) == self.inode,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => false,
            // A file that cannot be checked is not reported as lost: writing to it shows more.
            Err(_) => true,
        }
    }

    /// Whether it has no name any more: it disappears with the last handle.
    fn is_unlinked(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl NamedDir {
    /// For an open data directory with these files. The length of those in `fixed` never changes.
    ///
    /// # Errors
    /// [`io::Error`] if one of them cannot be opened.
    pub(super) fn of(dir: &Path, files: &[&'static str], fixed: &[&'static str]) -> io::Result<Self> {
        let name = std::path::absolute(dir)?;
        let open = |file: &'static str| data_dir::open(&name.join(file), Access::Read);
        let held = |file: &&'static str| Ok((*file, OpenFile::of(open(file)?)?));
        let held_fixed = |file: &&'static str| Ok((*file, OpenFile::of_fixed(open(file)?)?));
        let files = files.iter().map(held).chain(fixed.iter().map(held_fixed));
        Ok(Self {
            dir: OpenFile::of(File::open(&name)?)?,
            files: files.collect::<io::Result<_>>()?,
            name,
            state: Mutex::default(),
        })
    }

    /// Compares the names with the open files. A new loss is logged as an error, and so is its end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with a message for people, if the next start would not find what is written now.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.cut = state.cut.or_else(|| self.cut());
        let found = self.look(state.cut);
        match (&found, &state.lost) {
            (Some(what), None) => tracing::error!("THE DATA DIRECTORY IS LOST: {what}"),
            (None, Some(_)) => tracing::warn!(
                dir = %self.name.display(),
                "the data directory is back: the service continues"
            ),
            _ => {}
        }
        // The message about saved files stays for as long as the loss.
        if found.is_none() || state.lost.is_none() {
            state.lost = found;
        }
        outcome(state.lost.as_ref())
    }

    /// As [`NamedDir::check`] with only a few checks, for each commit: that the name leads to the directory, that its
    /// files exist, and that nothing was truncated. `look_after` checks the rest.
    ///
    /// # Errors
    /// As [`NamedDir::check`].
    pub(super) fn check_soon(&self) -> Result<(), StoreError> {
        let first = self.files.first();
        let well = self.dir.is(stat(&self.name))
            && first.is_none_or(|(file, held)| self.has(file, held))
            && self.cut().is_none();
        if well { self.last() } else { self.check() }
    }

    /// The result of the last check.
    ///
    /// # Errors
    /// As [`NamedDir::check`].
    pub(super) fn last(&self) -> Result<(), StoreError> {
        outcome(self.state().lost.as_ref())
    }

    /// Whether files that would be lost with the process can be saved now.
    pub(super) fn wants_saving(&self) -> bool {
        let state = self.state();
        state.lost.is_some() && !state.saved && self.files.iter().any(|(_, held)| held.is_unlinked())
    }

    /// Copies the open files into a directory in the data directory, or beside it if that is gone. Nobody may write
    /// to them meanwhile.
    pub(super) fn save(&self) {
        let what = match self.copy() {
            Ok(saved) => format!(
                "the store's files in {} were removed while the service ran; everything that was acknowledged is saved in {}: stop the service, {} {}, and start it again",
                self.name.display(),
                saved.display(),
                if saved.starts_with(&self.name) {
                    "move the files in that directory to"
                } else {
                    "rename that directory to"
                },
                self.name.display()
            ),
            Err(error) => format!(
                "the store's files in {} were removed while the service ran, and cannot be saved there ({error}): everything that was acknowledged is lost when this process (PID {}) ends; until then it can be copied from {}",
                self.name.display(),
                std::process::id(),
                self.open_paths()
            ),
        };
        tracing::error!("THE DATA DIRECTORY IS LOST: {what}");
        let mut state = self.state();
        state.saved = true;
        state.lost = Some(what);
    }

    /// What is wrong, for people; none if nothing is.
    fn look(&self, cut: Option<&'static str>) -> Option<String> {
        let name = self.name.display();
        if !self.dir.is(stat(&self.name)) {
            let moved = fs::read_link(format!("/proc/self/fd/{}", self.dir.file.as_raw_fd()));
            return Some(match moved {
                Ok(now) if !self.dir.is_unlinked() => format!(
                    "its name {name} leads to another directory or to none: it was moved, mounted over or replaced while the service ran. Everything that was acknowledged is in it, now at {}: put it back, and the service continues; no new work is accepted until then",
                    now.display()
                ),
                _ => format!(
                    "{name} was removed while the service ran: what was acknowledged is in open files only, {BEING_SAVED}"
                ),
            });
        }
        if let Some(file) = cut {
            return Some(format!(
                "the file {file} in {name} was truncated while the service ran: some of what was acknowledged may be lost; no new work is accepted. Find out what truncated it, stop the service and check the directory (see `check` and `repair` in --help)"
            ));
        }
        let (file, _) = self.files.iter().find(|(file, held)| !self.has(file, held))?;
        Some(format!(
            "the file {file} in {name} was removed or replaced while the service ran: what was acknowledged is in open files only, {BEING_SAVED}"
        ))
    }

    /// A file that was truncated.
    fn cut(&self) -> Option<&'static str> {
        let cut = self.files.iter().find(|(_, held)| held.is_cut());
        cut.map(|(file, _)| *file)
    }

    fn has(&self, file: &str, held: &OpenFile) -> bool {
        held.is(statat(&self.dir.file, file, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn copy(&self) -> io::Result<PathBuf> {
        let (into, dir) = self.make_saved()?;
        for (name, held) in &self.files {
            let mut from = File::open(format!("/proc/self/fd/{}", held.file.as_raw_fd()))?;
            let mut to = data_dir::create(&into.join(name))?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()?;
        }
        dir.sync_all()?;
        Ok(into)
    }

    /// A directory with a free name. In the data directory if that still exists: in a container, files beside it may
    /// disappear with the container.
    fn make_saved(&self) -> io::Result<(PathBuf, File)> {
        let saved = match self.dir.is(stat(&self.name)) {
            true => self.name.join("saved").into_os_string(),
            false => {
                let mut beside = self.name.clone().into_os_string();
                beside.push(".saved");
                beside
            }
        };
        for n in 1..=SAVED_TRIES {
            let mut path = saved.clone();
            path.push(format!("-{n}"));
            let path = PathBuf::from(path);
            match fs::DirBuilder::new().mode(SAVED_MODE).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    let dir = File::open(&path)?;
                    return Ok((path, dir));
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn open_paths(&self) -> String {
        let process = std::process::id();
        let paths = self
            .files
            .iter()
            .map(|(name, held)| format!("/proc/{process}/fd/{} ({name})", held.file.as_raw_fd()));
        paths.collect::<Vec<_>>().join(", ")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome(lost: Option<&String>) -> Result<(), StoreError> {
    match lost {
        None => Ok(()),
        Some(what) => Err(StoreError::Unavailable(format!(
            "the data directory is lost: {what}"
        ))),
    }
}

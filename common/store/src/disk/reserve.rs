//! A file beside the store that holds some room back. When the disk is full it is given up, and what is under way
//! can still be written: ends, undo, and the opening of the store, which writes too. New work is taken again only when
//! there is so much room that it can be held back anew.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::data_dir::{self, Access};

/// The file in the data directory.
pub(super) const FILE: &str = "reserve";

/// With less than this the disk is full: a start could not even write its address.
const SCANT: u64 = 1 << 20;

/// Between two looks at what is free: a caller who is refused is asked to come back in a second, and a look is a system
/// call.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What people are told.
const FULL: &str = "the disk of the data directory is full: no new work is taken until there is room";

/// The room that is held back, or not.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    bytes: u64,
    held: AtomicBool,
    looked: Mutex<Option<Instant>>,
}

impl Reserve {
    /// Holds so many bytes back in a data directory, or keeps what an earlier start held back. Where the disk is full,
    /// that is given up.
    pub(super) fn take(dir: &Path, bytes: u64) -> Self {
        let reserve = Self {
            dir: dir.to_owned(),
            bytes,
            held: AtomicBool::new(false),
            looked: Mutex::new(None),
        };
        let free = free(dir).unwrap_or(u64::MAX);
        if free < SCANT {
            reserve.give_up();
        } else if free >= reserve.free_again() || is_whole(&reserve.path(), bytes) {
            reserve.hold();
        }
        if !reserve.held.load(Ordering::Acquire) {
            tracing::error!(dir = %dir.display(), free, "{FULL}");
        }
        reserve
    }

    /// Gives up what an earlier start held back, if that is what the disk lacks; says whether it did.
    pub(super) fn give_up_left(dir: &Path) -> bool {
        free(dir).is_ok_and(|free| free < SCANT) && fs::remove_file(dir.join(FILE)).is_ok()
    }

    /// Whether room is held back: then there is some for new work. Now and then this looks at the disk: where it has become
    /// full, the room is given up before more is taken than it can hold; where it is not any more, it is held back again.
    pub(super) fn is_held(&self) -> bool {
        self.look_again();
        self.held.load(Ordering::Acquire)
    }

    /// Gives up what is held back, if that is what the disk lacks.
    pub(super) fn give_up_if_full(&self) {
        if free(&self.dir).is_ok_and(|free| free < self.bytes) {
            self.give_up();
        }
    }

    /// Gives up what is held back.
    pub(super) fn give_up(&self) {
        if self.held.swap(false, Ordering::AcqRel) {
            tracing::error!(dir = %self.dir.display(), "{FULL}");
        }
        let removed = fs::remove_file(self.path());
        // Blocks are free for others only when the removal is on disk.
        match removed.and_then(|()| File::open(&self.dir)?.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the reserved room cannot be released");
            }
            _ => {}
        }
    }

    fn look_again(&self) {
        let mut looked = match self.looked.try_lock() {
            Ok(looked) => looked,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            // Somebody looks.
            Err(TryLockError::WouldBlock) => return,
        };
        if looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return;
        }
        *looked = Some(Instant::now());
        let Ok(free) = free(&self.dir) else { return };
        match self.held.load(Ordering::Acquire) {
            true if free < SCANT => self.give_up(),
            false if free >= self.free_again() => self.hold(),
            _ => {}
        }
    }

    /// What must be free before room is held back: with less, the next commits would be at the same point.
    fn free_again(&self) -> u64 {
        self.bytes.saturating_mul(2)
    }

    fn hold(&self) {
        let held = match allocate(&self.path(), self.bytes) {
            // Not every file system can; then the store's own errors are all there is.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => Ok(()),
            outcome => outcome,
        };
        match held {
            Ok(()) => {
                if !self.held.swap(true, Ordering::AcqRel) {
                    tracing::info!(
                        bytes = self.bytes,
                        "reserved room for the store: new work is taken"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "no room can be reserved for the store");
                self.give_up();
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = data_dir::open(path, Access::Write)?;
    Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

/// Whether all its blocks are there: a copy of it may be sparse.
fn is_whole(path: &Path, bytes: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.blocks().saturating_mul(512) >= bytes)
}

/// Bytes that the file system has left for this process's user.
fn free(dir: &Path) -> rustix::io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

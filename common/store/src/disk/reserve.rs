//! A file beside the store that reserves disk space. When the disk is full the space is released, so that running
//! work can still be written: ends, undo, and the opening of the store. New work is accepted again only when the
//! space can be reserved again.

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

/// With less free space than this the disk counts as full: a start could not even write its address.
const SCANT: u64 = 1 << 20;

/// Between two checks of the free space: a refused caller is asked to come back in a second, and a check is a system
/// call.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The message for people.
const FULL: &str = "the disk of the data directory is full: no new work is accepted until there is room";

/// The reserve of disk space.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    bytes: u64,
    held: AtomicBool,
    looked: Mutex<Option<Instant>>,
}

impl Reserve {
    /// Reserves this many bytes in a data directory, or keeps the reserve of an earlier start. If the disk is full,
    /// the reserve is released.
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

    /// Releases the reserve of an earlier start if the disk is full; returns whether it did.
    pub(super) fn give_up_left(dir: &Path) -> bool {
        free(dir).is_ok_and(|free| free < SCANT) && fs::remove_file(dir.join(FILE)).is_ok()
    }

    /// Whether space is reserved, so that there is space for new work. From time to time this checks the disk: if it
    /// has become full, the reserve is released before more work is accepted than it can hold; if it no longer is,
    /// the space is reserved again.
    pub(super) fn is_held(&self) -> bool {
        self.look_again();
        self.held.load(Ordering::Acquire)
    }

    /// Free and in all on the file system, and what a file of the directory takes, in bytes; 0 for what cannot be told.
    pub(super) fn space(&self, file: &str) -> (u64, u64, u64) {
        let (free, total) = space(&self.dir).unwrap_or_default();
        let taken =
            fs::symlink_metadata(self.dir.join(file)).map_or(0, |file| file.blocks().saturating_mul(512));
        (free, total, taken)
    }

    /// Releases the reserve if the disk is full.
    pub(super) fn give_up_if_full(&self) {
        if free(&self.dir).is_ok_and(|free| free < self.bytes) {
            self.give_up();
        }
    }

    /// Releases the reserve.
    pub(super) fn give_up(&self) {
        if self.held.swap(false, Ordering::AcqRel) {
            tracing::error!(dir = %self.dir.display(), "{FULL}");
        }
        let removed = fs::remove_file(self.path());
        // Blocks are free for others only once the removal is durable.
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

    /// The space that must be free before it is reserved again: with less, the next commits would fill the disk again.
    fn free_again(&self) -> u64 {
        self.bytes.saturating_mul(2)
    }

    fn hold(&self) {
        let held = match allocate(&self.path(), self.bytes) {
            // Not every file system supports this; then only the store's own errors show a full disk.
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

/// Whether all its blocks are allocated: a copy of it may be sparse.
fn is_whole(path: &Path, bytes: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.blocks().saturating_mul(512) >= bytes)
}

/// The free space of the file system for this process's user, in bytes.
fn free(dir: &Path) -> rustix::io::Result<u64> {
    Ok(space(dir)?.0)
}

/// The same, and all bytes that it has.
fn space(dir: &Path) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

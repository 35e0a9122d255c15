//! One process for a data directory: whoever holds the lock on `lock` in it. The lock is the kernel's, so it ends with the
//! process, however that ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::data_dir::{self, Access};

/// The file in the data directory.
pub(super) const FILE: &str = "lock";

/// How long another holder is waited for. A child that a killed service had just forked holds its files until it has
/// become another program: for a moment, and the service may be started again within it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// None where there is no such file to be locked, and nothing may be made.
    _file: Option<File>,
}

impl Lock {
    /// Locks a data directory, for writing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where another process has it.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let file = data_dir::open(&path, Access::Write).map_err(|error| super::at(&path, &error))?;
        held(file, path)
    }

    /// Locks one that is only read. Without the file nobody has it open who would write to it.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(super) fn take_to_read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        match data_dir::open(&path, Access::Read) {
            Ok(file) => held(file, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self { _file: None }),
            Err(error) => Err(super::at(&path, &error)),
        }
    }
}

fn held(file: File, path: PathBuf) -> Result<Lock, StoreError> {
    let given_up = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) if Instant::now() < given_up => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unavailable(format!(
                    "{} is locked: another process uses the data directory; stop that process first",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(super::at(&path, &error)),
        }
    }
}

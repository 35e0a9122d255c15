//! A data directory belongs to one process: the one that holds the lock on the file `lock`. It is a kernel lock, so
//! it ends with the process, however that ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::data_dir::{self, Access};

/// The file in the data directory.
pub(super) const FILE: &str = "lock";

/// How long to wait for another holder. A child that a killed service had just forked holds its files until it
/// executes another program; the service may be restarted within that moment.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// None if the file does not exist and must not be created.
    _file: Option<File>,
}

impl Lock {
    /// Locks a data directory, for writing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if another process has it.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let file = data_dir::open(&path, Access::Write).map_err(|error| super::at(&path, &error))?;
        held(file, path)
    }

    /// Locks a data directory for reading. If the file does not exist, no writer has the directory open.
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

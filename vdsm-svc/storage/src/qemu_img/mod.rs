//! `qemu-img`: its command lines, built purely; what it answers; and the one place that runs it.

pub mod argv;
mod capture;
mod ended;
mod pipes;
mod program;
mod run;
mod stall;
mod version;

use std::path::PathBuf;
use std::time::Duration;

use crate::confine::{Confiner, StorageUser};

pub use capture::Captured;
pub(crate) use ended::Ended;
pub use ended::Output;
pub(crate) use run::Job;
pub use run::{Given, Limits};
pub use version::{MINIMUM, Version};

/// The default for how long a task's process may make no progress: storage that takes that long for one block is
/// considered dead.
pub const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The program, as configured, and how it is confined.
#[derive(Debug, Clone)]
pub struct QemuImg {
    program: PathBuf,
    confiner: Confiner,
    user: StorageUser,
    no_progress_timeout: Duration,
}

impl QemuImg {
    /// A program by its path, or by its name in the search path; its confiner, and the user that it runs as if we are
    /// root.
    pub fn new(program: PathBuf, confiner: Confiner, user: StorageUser) -> Self {
        Self {
            program,
            confiner,
            user,
            no_progress_timeout: NO_PROGRESS_TIMEOUT,
        }
    }

    /// The user that it runs as if we are root.
    pub(crate) fn user(&self) -> StorageUser {
        self.user
    }

    /// The same, stopped in a task when it makes no progress for this long.
    #[must_use]
    pub fn stopped_after(self, no_progress_timeout: Duration) -> Self {
        Self {
            no_progress_timeout,
            ..self
        }
    }
}

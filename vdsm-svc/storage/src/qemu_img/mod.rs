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

/// For how long a task's process may move no byte, unless it is set otherwise: storage that takes so long for one
/// block is taken for dead.
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
    /// A program by its path, or by its name in the search path; who confines it, and as whom it runs where we are root.
    pub fn new(program: PathBuf, confiner: Confiner, user: StorageUser) -> Self {
        Self {
            program,
            confiner,
            user,
            no_progress_timeout: NO_PROGRESS_TIMEOUT,
        }
    }

    /// As whom it runs where we are root.
    pub(crate) fn user(&self) -> StorageUser {
        self.user
    }

    /// The same, stopped in a task when it moves no byte for so long.
    #[must_use]
    pub fn stopped_after(self, no_progress_timeout: Duration) -> Self {
        Self {
            no_progress_timeout,
            ..self
        }
    }
}

//! `qemu-img`: its command lines, built purely; what it answers; and the one place that runs it.

pub mod argv;
mod capture;
mod ended;
mod info;
mod pipes;
mod run;
mod stall;
mod version;

use std::path::PathBuf;
use std::time::Duration;

pub use capture::Captured;
pub(crate) use ended::Ended;
pub use ended::Output;
pub use info::ImageInfo;
pub(crate) use run::Job;
pub use run::Limits;
pub use version::{MINIMUM, Version};

/// For how long a task's process may move no byte, unless it is set otherwise: storage that takes so long for one
/// block is taken for dead.
pub const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The program, as configured.
#[derive(Debug, Clone)]
pub struct QemuImg {
    program: PathBuf,
    no_progress_timeout: Duration,
}

impl QemuImg {
    /// A program by its path, or by its name in the search path.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            no_progress_timeout: NO_PROGRESS_TIMEOUT,
        }
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

impl Default for QemuImg {
    fn default() -> Self {
        Self::new("qemu-img".into())
    }
}

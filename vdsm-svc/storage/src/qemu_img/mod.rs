//! `qemu-img`: its command lines, built purely; what it answers; and the one place that runs it.

pub mod argv;
mod capture;
mod info;
mod run;
mod version;

use std::path::PathBuf;

pub use capture::Captured;
pub use info::ImageInfo;
pub(crate) use run::Job;
pub use run::{Limits, Output};
pub use version::{MINIMUM, Version};

/// The program, as configured.
#[derive(Debug, Clone)]
pub struct QemuImg {
    program: PathBuf,
}

impl QemuImg {
    /// A program by its path, or by its name in the search path.
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Default for QemuImg {
    fn default() -> Self {
        Self::new("qemu-img".into())
    }
}

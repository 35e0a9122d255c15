//! Every child process is confined: a third-party program can do what its work needs, and no more.
//!
//! Whoever may write to storage can change a header or a name between our check and the program's use. So the program
//! gets open files, and the kernel refuses it everything else. Between the service and the program runs our own
//! program ([`Confiner`], [`run_if_asked`]): it reads its instructions (`Order`), drops its privileges, sets the
//! limits, and executes the program. What a machine cannot enforce is determined once at startup, and logged;
//! everything else is required from then on: a child that cannot be confined so is not started.

mod calls;
mod child;
mod landlock;
mod order;
mod rights;
mod user;

use std::path::{Path, PathBuf};

pub(crate) use child::{NO_PROGRAM, NOT_STARTED};
pub use child::{run_if_asked, run_unfiltered_if_asked};
pub(crate) use order::{Access, Bounds, Order, Permit};
pub use order::{Missing, Part, Report};
pub use user::{StorageUser, StorageUserError};

/// The first argument, which tells our program to confine itself and execute another program.
pub(crate) const FIRST_ARGUMENT: &str = "--confined-child";

/// The program that confines itself and executes another one.
#[derive(Debug, Clone)]
pub struct Confiner(PathBuf);

impl Confiner {
    /// The running program, whose `main` calls [`run_if_asked`] first. It is executed again whatever happens to its
    /// file.
    pub fn this_program() -> Self {
        Self(PathBuf::from("/proc/self/exe"))
    }

    /// Another program whose `main` does that.
    pub fn program(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

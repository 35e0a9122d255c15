//! Every child is confined: what a program of somebody else's may do is what its work needs, and no more.
//!
//! A header or a name on storage may be changed by whoever may write there, between our look and the program's. So the
//! program is handed open files, and the kernel refuses it everything else. Between the service and the program stands a
//! run of our own program ([`Confiner`], [`run_if_asked`]): it reads what it is to do (`Order`), gives up its rights,
//! sets the limits, and becomes the program. What a machine cannot do of that is found out once, at the start, and said;
//! what it can do is demanded from then on: a child that cannot be confined so is not started.

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

/// The first argument by which a program of ours knows that it is to confine itself and become another one.
pub(crate) const FIRST_ARGUMENT: &str = "--confined-child";

/// The program that confines itself and becomes another one.
#[derive(Debug, Clone)]
pub struct Confiner(PathBuf);

impl Confiner {
    /// The running program: its `main` calls [`run_if_asked`] before all else. Whatever became of its file, the very
    /// program is run again.
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

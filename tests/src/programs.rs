//! Where the programs lie.

use std::path::PathBuf;

use crate::failure::{Context, Failure, Outcome};

/// The path of a program of this workspace: beside the running one, or one folder up where that is a test,
/// which lies in `deps`.
///
/// # Errors
/// Naming the places looked at and how to build it.
pub fn program(name: &str) -> Outcome<PathBuf> {
    let own = std::env::current_exe().context("where this program lies")?;
    let beside = own.parent().context("this program lies nowhere")?;
    let folders = [Some(beside), beside.parent()];
    folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::new(format!(
                "there is no {name} in {} or above it; `make test` and `make demo` build it first",
                beside.display()
            ))
        })
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

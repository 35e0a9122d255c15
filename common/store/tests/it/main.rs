//! What the stores promise.

// What helps a test may fail as a test does.
#![allow(clippy::unwrap_used)]

mod families;
mod format;
mod lost;
mod reader;
mod store;

use std::path::Path;

use ::store::disk::Owner;
use tempfile::TempDir;

/// Whose the stores of these tests are.
const OWNER: Owner = Owner::service("test-svc");

/// What a power cut would leave of a store that is in use: a copy of its files, taken between two commits.
fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

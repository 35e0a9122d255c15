//! Checks everything that a start writes or replaces before it writes anything, so that a start that refuses one of
//! the files changes none of them, and so that `check` reports what a start would report.

use std::io;
use std::path::Path;

use super::{at, lock, manifest, reserve, seal, tables, wal};
use crate::StoreError;
use crate::data_dir::{self, ADDRESS, METRICS_ADDRESS};

/// Files that are opened for writing or created.
const WRITTEN: [&str; 6] = [
    lock::FILE,
    tables::FILE,
    wal::FILES[0],
    wal::FILES[1],
    seal::FILE,
    reserve::FILE,
];

/// The files that no start accepts, each with a message that names it.
pub(super) fn faults(dir: &Path) -> impl Iterator<Item = StoreError> {
    let written = WRITTEN.iter().map(|name| of(dir, name, data_dir::is_writable));
    let temporary = [manifest::FILE, ADDRESS, METRICS_ADDRESS].map(|name| format!("{name}.new"));
    let replaced = temporary
        .into_iter()
        .chain([ADDRESS.to_owned(), METRICS_ADDRESS.to_owned()]);
    let replaced = replaced.map(|name| of(dir, &name, data_dir::is_replaceable));
    written.chain(replaced).filter_map(Result::err)
}

/// As [`faults`], and checks that the files belong to this user.
///
/// # Errors
/// The first fault.
pub(super) fn check(dir: &Path) -> Result<(), StoreError> {
    faults(dir).next().map_or(Ok(()), Err)?;
    WRITTEN
        .iter()
        .try_for_each(|name| of(dir, name, data_dir::is_of_us))
}

fn of(dir: &Path, name: &str, look: fn(&Path) -> io::Result<()>) -> Result<(), StoreError> {
    let path = dir.join(name);
    look(&path).map_err(|error| at(&path, &error))
}

//! What a start writes to, and what it replaces: looked at before the first of it, so that a start that refuses one of
//! these leaves all of them as they are, and so that `check` says what a start would say.

use std::io;
use std::path::Path;

use super::{at, lock, manifest, reserve, seal, tables, wal};
use crate::StoreError;
use crate::data_dir::{self, ADDRESS};

/// Opened for writing, or made.
const WRITTEN: [&str; 6] = [
    lock::FILE,
    tables::FILE,
    wal::FILES[0],
    wal::FILES[1],
    seal::FILE,
    reserve::FILE,
];

/// Refuses what no start takes: each file that is wrong, in a sentence that names it.
pub(super) fn faults(dir: &Path) -> impl Iterator<Item = StoreError> {
    let written = WRITTEN.iter().map(|name| of(dir, name, data_dir::is_writable));
    let temporary = [manifest::FILE, ADDRESS].map(|name| format!("{name}.new"));
    let replaced = temporary.into_iter().chain([ADDRESS.to_owned()]);
    let replaced = replaced.map(|name| of(dir, &name, data_dir::is_replaceable));
    written.chain(replaced).filter_map(Result::err)
}

/// As [`faults`], and that what is there is this user's.
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

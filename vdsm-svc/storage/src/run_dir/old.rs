//! What earlier builds left in the storage root: run directories, which anybody who writes to storage could forge.
//! Processes of theirs are found as all others are ([`super::holder`]); the directories are removed, and nothing in them is read.

use common::id::TaskId;

use crate::file::Dir;
use crate::names;
use crate::root::StorageRoot;

/// Removes those of the tasks that `is_over` says so of, and then the place where they lay if nothing else is in it.
/// What stands in the way is left: it is nobody's business.
pub(super) fn remove(root: &StorageRoot, is_over: impl Fn(TaskId) -> bool) {
    let Ok(Some(runs)) = root.dir().dir(names::RUN) else {
        return;
    };
    for entry in runs.entries().unwrap_or_default() {
        let task = entry.name.to_str().and_then(|name| name.parse().ok());
        if task.is_some_and(&is_over) {
            let _ = remove_one(&runs, &entry.name);
        }
    }
    let _ = root.dir().remove_dir(names::RUN);
}

fn remove_one(runs: &Dir, name: &std::ffi::OsStr) -> Result<(), crate::file::FileError> {
    let Some(dir) = runs.dir(name)? else { return Ok(()) };
    dir.purge()?;
    runs.remove_dir(name)
}

//! A look at a file of tables before anything is believed of it, and nothing is written to it.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use redb::Database;

use super::damaged;
use super::overlay::{Overlay, Source};
use crate::StoreError;

/// Pages that are kept in memory while each is looked at once.
const CACHE_BYTES: usize = 8 << 20;

/// The tables of a source, to be read, if every page of them is what redb wrote.
///
/// # Errors
/// [`StoreError::Damaged`] where one is not.
pub(super) fn whole(path: &Path, source: impl Source) -> Result<Database, StoreError> {
    // redb trusts some numbers in a file, and panics if they are wrong.
    match quietly(|| look(source)) {
        Some(Ok(Some(database))) => Ok(database),
        Some(Ok(None)) => Err(damaged(path, "has pages that are not what was written")),
        Some(Err(error)) => Err(damaged(path, &format!("cannot be read: {error}"))),
        None => Err(damaged(path, "cannot be read: it is no file of tables any more")),
    }
}

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs what may panic over a damaged file; none if it did. Such a panic is a finding, and no news for the log.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                usual(info);
            }
        }));
    });
    let before = EXPECTED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(before);
    outcome.ok()
}

fn look(source: impl Source) -> Result<Option<Database>, redb::Error> {
    let overlay = Overlay::new(source)?;
    if redb::StorageBackend::len(&overlay)? == 0 {
        // redb would make a new one.
        return Ok(None);
    }
    let mut database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(overlay)?;
    let is_whole = database.check_integrity()?;
    Ok(is_whole.then_some(database))
}

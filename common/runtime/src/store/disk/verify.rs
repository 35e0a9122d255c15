//! A look at a file of tables before anything is believed of it, and nothing is written to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::Database;

use super::damaged;
use super::overlay::{Overlay, Source};
use crate::store::StoreError;

/// Pages that are kept in memory while each is looked at once.
const CACHE_BYTES: usize = 8 << 20;

/// The tables of a source, to be read, if every page of them is what redb wrote.
///
/// # Errors
/// [`StoreError::Damaged`] where one is not.
pub(super) fn whole(path: &Path, source: impl Source) -> Result<Database, StoreError> {
    // redb takes some numbers in a file at their word, and panics where they are wrong.
    let looked = catch_unwind(AssertUnwindSafe(|| look(source)));
    match looked {
        Ok(Ok(Some(database))) => Ok(database),
        Ok(Ok(None)) => Err(damaged(path, "has pages that are not what was written")),
        Ok(Err(error)) => Err(damaged(path, &format!("cannot be read: {error}"))),
        Err(_) => Err(damaged(path, "cannot be read: it is no file of tables any more")),
    }
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

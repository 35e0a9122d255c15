//! Tables made anew of records that were saved from a damaged store.

use std::path::Path;
use std::sync::Arc;

use common::id::StoreId;
use common::revision::{Revision, Start};

use super::record::encode;
use super::{META, OLDEST, Records, Tables, begin, failed};
use crate::StoreError;
use crate::disk::throttle::Throttle;

/// Makes tables of records that were saved, as of a store that was closed after `revision`.
///
/// # Errors
/// [`StoreError`] where they cannot be written; the first error of `records`.
pub(in crate::disk) fn rebuild(
    dir: &Path,
    store_id: StoreId,
    start: Start,
    revision: Revision,
    records: impl Iterator<Item = Result<(impl AsRef<str>, impl AsRef<[u8]>, impl AsRef<[u8]>), StoreError>>,
) -> Result<(), StoreError> {
    let throttle = Arc::new(Throttle::new());
    let tables = Tables::open(dir, 8 << 20, |_, _| None, &throttle)?;
    let transaction = tables.write()?;
    {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert(OLDEST, revision.0.to_be_bytes().as_slice())
            .map_err(failed)?;
    }
    begin(&transaction, store_id, start)?;
    for record in records {
        let (name, key, value) = record?;
        let (name, key, value) = (name.as_ref(), key.as_ref(), value.as_ref());
        let mut table = transaction.open_table(Records::new(name)).map_err(failed)?;
        table
            .insert(key, encode(name, key, value, None)?.as_slice())
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

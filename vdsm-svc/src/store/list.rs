//! Lists of tasks, in the order of their acceptance.

use std::ops::Bound;

use ::store::{Order, Pair, Reader, StoreError};
use common::task::TaskState;
use proto::host::v1 as wire;
use runtime::page::{MAX_SIZE, Page};

use super::{CLEARED, TASK, decode_task, ordinal_of, shown};

/// The maximum number of records that one call looks at, so that a rare state among very many tasks delays neither
/// this call nor others: the page is then shorter than requested, and names the next one.
const LOOKED_AT: usize = 2 * MAX_SIZE;

/// A requested page.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    /// Only tasks in these states; empty means all.
    pub(crate) states: Vec<TaskState>,
    /// Whether cleared tasks are included.
    pub(crate) show_removed: bool,
    /// The maximum number of tasks.
    pub(crate) size: usize,
    /// The last key of the previous page; empty for the first page.
    pub(crate) after: Vec<u8>,
}

/// A page, and its last key if there may be more.
///
/// # Errors
/// [`StoreError`] if the records cannot be read.
pub(crate) fn list(
    reader: &dyn Reader,
    listing: &Listing,
) -> Result<(Vec<wire::Task>, Option<Vec<u8>>), StoreError> {
    let mut found = Page::of(listing.size);
    let mut after = listing.after.clone();
    let mut looked_at = 0;
    while looked_at < LOOKED_AT {
        let page = merged(reader, &after, listing.size, listing.show_removed)?;
        let whole = page.len() == listing.size;
        for (key, record) in page {
            match decode_task(ordinal_of(&key)?, &record) {
                Ok(task) if listing.states.is_empty() || listing.states.contains(&task.state) => {
                    if !found.take(shown(&task)) {
                        return Ok((found.into_items(), Some(after)));
                    }
                }
                Ok(_) => {}
                // One damaged record hides no other; a request for it by id is an error.
                Err(error) => tracing::error!(%error, "a record cannot be read and is left out of a list"),
            }
            after = key;
            looked_at += 1;
            if found.is_full() {
                return Ok((found.into_items(), Some(after)));
            }
        }
        if !whole {
            return Ok((found.into_items(), None));
        }
    }
    Ok((found.into_items(), Some(after)))
}

/// Up to `limit` records after a key, including cleared tasks if requested.
fn merged(
    reader: &dyn Reader,
    after: &[u8],
    limit: usize,
    show_removed: bool,
) -> Result<Vec<Pair>, StoreError> {
    let from = if after.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(after)
    };
    let mut records = reader.scan(TASK, (from, Bound::Unbounded), Order::Ascending, limit)?;
    if show_removed {
        records.extend(reader.scan(CLEARED, (from, Bound::Unbounded), Order::Ascending, limit)?);
        records.sort();
        records.truncate(limit);
    }
    Ok(records)
}

//! A look at every record and every row of the history of tables that nobody writes to.

use common::revision::Revision;
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableHandle as _};

use super::record::whole;
use super::{HISTORY, Left, META, OWN, Records, failed, left, stored_oldest};
use crate::store::StoreError;
use crate::store::disk::row;

/// What there is in tables that are looked at.
#[derive(Debug, Default)]
pub(in crate::store::disk) struct Walked {
    pub left: Option<Left>,
    pub tables: u64,
    pub records: u64,
    pub revisions: u64,
    /// In words, each naming what is wrong.
    pub faults: Vec<String>,
}

/// Looks at every record and every row of the history, and has each record that is what was written taken.
///
/// # Errors
/// [`StoreError`] where redb cannot go on.
pub(in crate::store::disk) fn walk(
    database: &Database,
    mut take: impl FnMut(&str, &[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<Walked, StoreError> {
    let transaction = database.begin_read().map_err(failed)?;
    let mut walked = Walked::default();
    for table in transaction.list_tables().map_err(failed)? {
        let name = table.name().to_owned();
        if name.starts_with(OWN) {
            continue;
        }
        walked.tables += 1;
        let table = transaction.open_table(Records::new(&name)).map_err(failed)?;
        for record in table.range::<&[u8]>(..).map_err(failed)? {
            let (key, value) = record.map_err(failed)?;
            match whole(&name, key.value(), value.value()) {
                Ok(value) => {
                    walked.records += 1;
                    take(&name, key.value(), &value)?;
                }
                Err(fault) => walked.faults.push(fault.to_string()),
            }
        }
    }
    let left = left(&transaction)?;
    if left.store_id.is_some() {
        walk_history(&transaction, &mut walked)?;
    }
    walked.left = Some(left);
    Ok(walked)
}

/// Every row is whole, and each goes on where the one before ends.
fn walk_history(transaction: &ReadTransaction, walked: &mut Walked) -> Result<(), StoreError> {
    let mut next = stored_oldest(&transaction.open_table(META).map_err(failed)?)?.next();
    let table = transaction.open_table(HISTORY).map_err(failed)?;
    for row in table.range::<u64>(..).map_err(failed)? {
        let (last, row) = row.map_err(failed)?;
        let last = Revision(last.value());
        match row::revisions(last, row.value()) {
            Ok(revisions) => {
                let first = revisions.first().map_or(last, |recorded| recorded.revision);
                // A row of which a part was trimmed stays until all of it was.
                if first > next {
                    let what = format!("the history lacks revisions {} to {}", next.0, first.0 - 1);
                    walked.faults.push(what);
                }
                walked.revisions += revisions.len() as u64;
            }
            Err(fault) => walked.faults.push(fault.to_string()),
        }
        next = last.next();
    }
    Ok(())
}

//! A look at every record and every row of the history of tables that nobody writes to.

use std::collections::BTreeMap;

use common::revision::Revision;
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableHandle as _};

use super::record::{like, shown, whole};
use super::row;
use super::sample::{Id, SAMPLES, Samples};
use super::{HISTORY, Left, META, OWN, Records, existing, failed, left, stored_oldest};
use crate::StoreError;

/// What there is in tables that are looked at.
#[derive(Debug, Default)]
pub(in crate::disk) struct Walked {
    pub left: Option<Left>,
    pub tables: u64,
    pub records: u64,
    pub revisions: u64,
    /// Of records, with their keys and what they are packed against, as they lie in their tables.
    pub record_bytes: u64,
    /// Of rows of the history.
    pub history_bytes: u64,
    /// In words, each naming what is wrong.
    pub faults: Vec<String>,
}

/// Looks at every record and every row of the history, and has each record that is what was written taken.
///
/// # Errors
/// [`StoreError`] where redb cannot go on.
pub(in crate::disk) fn walk(
    database: &Database,
    mut take: impl FnMut(&str, &[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<Walked, StoreError> {
    let transaction = database.begin_read().map_err(failed)?;
    let mut walked = Walked::default();
    let samples = Samples::of(existing(transaction.open_table(SAMPLES))?);
    let mut counts = samples.counts(&mut walked.faults)?;
    for table in transaction.list_tables().map_err(failed)? {
        let name = table.name().to_owned();
        if name.starts_with(OWN) {
            continue;
        }
        walked.tables += 1;
        let table = transaction.open_table(Records::new(&name)).map_err(failed)?;
        for record in table.range::<&[u8]>(..).map_err(failed)? {
            let (key, value) = record.map_err(failed)?;
            walked.record_bytes += (key.value().len() + value.value().len()) as u64;
            if let Some(id) = like(value.value()) {
                *counts.entry(id).or_default() -= 1;
            }
            match whole(&name, key.value(), value.value(), &samples) {
                Ok(value) => {
                    walked.records += 1;
                    take(&name, key.value(), &value)?;
                }
                Err(fault) => walked.faults.push(fault.to_string()),
            }
        }
    }
    walked.record_bytes += samples.bytes()?;
    let left = left(&transaction)?;
    if left.store_id.is_some() {
        walk_history(&transaction, &mut walked, &samples, &mut counts)?;
    }
    for (id, _) in counts.into_iter().filter(|(_, count)| *count != 0) {
        let what = format!("the sample {} does not count its records", shown(&id));
        walked.faults.push(what);
    }
    walked.left = Some(left);
    Ok(walked)
}

/// Every row is whole, and each goes on where the one before ends.
fn walk_history(
    transaction: &ReadTransaction,
    walked: &mut Walked,
    samples: &Samples,
    counts: &mut BTreeMap<Id, i64>,
) -> Result<(), StoreError> {
    let mut next = stored_oldest(&transaction.open_table(META).map_err(failed)?)?.next();
    let table = transaction.open_table(HISTORY).map_err(failed)?;
    for row in table.range::<u64>(..).map_err(failed)? {
        let (last, row) = row.map_err(failed)?;
        walked.history_bytes += (size_of::<u64>() + row.value().len()) as u64;
        if let Some(id) = row::like(row.value()) {
            *counts.entry(id).or_default() -= 1;
        }
        let last = Revision(last.value());
        match row::revisions(last, row.value(), samples) {
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

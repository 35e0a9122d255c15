//! A look at every record and every row of the history of tables that nobody writes to.

use std::collections::BTreeMap;

use common::revision::Revision;
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableHandle as _};

use super::dictionary::{DICTIONARIES, Dictionaries, DictionaryId};
use super::history_row;
use super::record::{decode, dictionary_of, shown};
use super::{HISTORY, LastCheckpoint, META, OWN, Records, existing, failed, read_checkpoint, stored_oldest};
use crate::StoreError;

/// What there is in tables that are looked at.
#[derive(Debug, Default)]
pub(in crate::disk) struct Walked {
    pub checkpoint: Option<LastCheckpoint>,
    pub tables: u64,
    pub records: u64,
    pub revisions: u64,
    /// Of records, with their keys and what they are compressed against, as they lie in their tables.
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
    let dictionaries = Dictionaries::of(existing(transaction.open_table(DICTIONARIES))?);
    let mut counts = dictionaries.counts(&mut walked.faults)?;
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
            if let Some(id) = dictionary_of(value.value()) {
                *counts.entry(id).or_default() -= 1;
            }
            match decode(&name, key.value(), value.value(), &dictionaries) {
                Ok(value) => {
                    walked.records += 1;
                    take(&name, key.value(), &value)?;
                }
                Err(fault) => walked.faults.push(fault.to_string()),
            }
        }
    }
    walked.record_bytes += dictionaries.bytes()?;
    let checkpoint = read_checkpoint(&transaction)?;
    if checkpoint.store_id.is_some() {
        walk_history(&transaction, &mut walked, &dictionaries, &mut counts)?;
    }
    for (id, _) in counts.into_iter().filter(|(_, count)| *count != 0) {
        let what = format!("the dictionary {} does not count its records", shown(&id));
        walked.faults.push(what);
    }
    walked.checkpoint = Some(checkpoint);
    Ok(walked)
}

/// Every row is whole, and each goes on where the one before ends.
fn walk_history(
    transaction: &ReadTransaction,
    walked: &mut Walked,
    dictionaries: &Dictionaries,
    counts: &mut BTreeMap<DictionaryId, i64>,
) -> Result<(), StoreError> {
    let mut next = stored_oldest(&transaction.open_table(META).map_err(failed)?)?.next();
    let table = transaction.open_table(HISTORY).map_err(failed)?;
    for row in table.range::<u64>(..).map_err(failed)? {
        let (last, row) = row.map_err(failed)?;
        walked.history_bytes += (size_of::<u64>() + row.value().len()) as u64;
        if let Some(id) = history_row::dictionary_of(row.value()) {
            *counts.entry(id).or_default() -= 1;
        }
        let last = Revision(last.value());
        match history_row::revisions(last, row.value(), dictionaries) {
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

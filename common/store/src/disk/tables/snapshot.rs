//! The tables at one moment, to be read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use common::revision::Revision;
use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, StorageError, TableHandle as _};

use super::dictionary::{DICTIONARIES, Dictionaries};
use super::history_row;
use super::record::decode;
use super::{HISTORY, META, OWN, Records, current, existing, failed, stored_oldest};
use crate::disk::backup::Take;
use crate::{Order, Pair, Recorded, StoreError, Table};

/// One read transaction.
pub(in crate::disk) struct TableSnapshot {
    transaction: ReadTransaction,
    /// The tables that there are, opened once: it is asked far more often than it is made.
    records: BTreeMap<String, ReadOnlyTable<&'static [u8], &'static [u8]>>,
    dictionaries: Arc<Dictionaries>,
}

impl TableSnapshot {
    pub(super) fn of(transaction: ReadTransaction) -> Result<Self, StoreError> {
        let mut records = BTreeMap::new();
        for table in transaction.list_tables().map_err(failed)? {
            if !table.name().starts_with(OWN) {
                let opened = transaction.open_table(Records::new(table.name()));
                records.insert(table.name().to_owned(), opened.map_err(failed)?);
            }
        }
        let dictionaries = existing(transaction.open_table(DICTIONARIES))?;
        Ok(Self {
            transaction,
            records,
            dictionaries: Arc::new(Dictionaries::of(dictionaries)),
        })
    }

    pub(in crate::disk) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let name = table.0;
        let Some(table) = self.records.get(name) else {
            return Ok(None);
        };
        let value = table.get(key).map_err(failed)?;
        let value = value.map(|value| decode(name, key, value.value(), &self.dictionaries));
        value.transpose()
    }

    /// The records of a range, read as they are asked for.
    pub(in crate::disk) fn range(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<Pair, StoreError>>>, StoreError> {
        let name = table.0;
        let Some(table) = self.records.get(name) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let found = table.range::<&[u8]>(range).map_err(failed)?;
        let dictionaries = Arc::clone(&self.dictionaries);
        Ok(match order {
            Order::Ascending => Box::new(found.map(move |found| to_pair(name, found, &dictionaries))),
            Order::Descending => Box::new(found.rev().map(move |found| to_pair(name, found, &dictionaries))),
        })
    }

    /// Has every record of the `wanted` tables taken, in the order of the keys.
    pub(in crate::disk) fn walk(
        &self,
        wanted: impl Fn(&str) -> bool,
        take: Take<'_>,
    ) -> Result<(), StoreError> {
        for (name, table) in self.records.iter().filter(|(name, _)| wanted(name)) {
            for found in table.range::<&[u8]>(..).map_err(failed)? {
                let (key, value) = to_pair(name, found, &self.dictionaries)?;
                take(name, &key, &value)?;
            }
        }
        Ok(())
    }

    pub(in crate::disk) fn history(
        &self,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let table = self.transaction.open_table(HISTORY).map_err(failed)?;
        let mut found = Vec::new();
        for row in table.range(after.next().0..).map_err(failed)? {
            if found.len() >= limit {
                break;
            }
            let (last, row) = row.map_err(failed)?;
            let revisions = history_row::revisions(Revision(last.value()), row.value(), &self.dictionaries)?;
            found.extend(revisions.into_iter().filter(|recorded| recorded.revision > after));
        }
        found.truncate(limit);
        Ok(found)
    }

    pub(in crate::disk) fn revision(&self) -> Result<Revision, StoreError> {
        current(&self.transaction)
    }

    pub(in crate::disk) fn oldest(&self) -> Result<Revision, StoreError> {
        stored_oldest(&self.transaction.open_table(META).map_err(failed)?)
    }
}

type Found<'a> = Result<(AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>), StorageError>;

fn to_pair(table: &str, found: Found<'_>, dictionaries: &Dictionaries) -> Result<Pair, StoreError> {
    let (key, value) = found.map_err(failed)?;
    let value = decode(table, key.value(), value.value(), dictionaries)?;
    Ok((key.value().to_vec(), value))
}

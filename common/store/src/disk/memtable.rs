//! The content of the write-ahead log that is not yet in the tables, in memory, with the state at each revision.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use common::revision::Revision;

use crate::{Commit, Order, Table};

/// A run of revisions. Batches are shared with the commit: only the keys are copied.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    batches: Vec<Arc<[Commit]>>,
    records: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<RecordVersion>>>,
}

/// The position of a record's value at a revision.
#[derive(Debug, Clone, Copy)]
struct RecordVersion {
    revision: Revision,
    batch: usize,
    commit: usize,
    write: usize,
}

/// A record in a memtable; no value if it was deleted.
pub(super) type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

impl Memtable {
    /// Adds the batch that follows.
    pub(super) fn insert(&mut self, batch: Arc<[Commit]>) {
        let at = self.batches.len();
        for (commit, made) in batch.iter().enumerate() {
            for (write, record) in made.writes.iter().enumerate() {
                let version = RecordVersion {
                    revision: made.revision,
                    batch: at,
                    commit,
                    write,
                };
                let table = self.records.entry(record.table).or_default();
                match table.get_mut(&record.key) {
                    Some(versions) => match versions.last_mut() {
                        Some(last) if last.revision == version.revision => *last = version,
                        _ => versions.push(version),
                    },
                    None => drop(table.insert(record.key.clone(), vec![version])),
                }
            }
        }
        self.batches.push(batch);
    }

    /// The last revision; none if it is empty.
    pub(super) fn last(&self) -> Option<Revision> {
        Some(self.batches.last()?.last()?.revision)
    }

    /// All revisions, in order.
    pub(super) fn commits(&self) -> impl Iterator<Item = &Commit> {
        self.batches.iter().flat_map(|batch| batch.iter())
    }

    /// Those after `after`, in order.
    pub(super) fn commits_after(&self, after: Revision) -> impl Iterator<Item = &Commit> {
        let over = |batch: &Arc<[Commit]>| batch.last().is_none_or(|last| last.revision <= after);
        let from = self.batches.partition_point(over);
        self.batches[from..]
            .iter()
            .flat_map(|batch| batch.iter())
            .skip_while(move |commit| commit.revision <= after)
    }

    /// Each table with its records after the last revision, in the order of the keys.
    pub(super) fn tables(&self) -> impl Iterator<Item = (Table, impl Iterator<Item = Entry<'_>>)> {
        self.records.iter().map(|(table, records)| {
            let last = records
                .iter()
                .filter_map(|(key, versions)| Some((key.as_slice(), self.value(versions.last()?))));
            (*table, last)
        })
    }

    /// The tables that it has records of.
    pub(super) fn names(&self) -> impl Iterator<Item = Table> {
        self.records.keys().copied()
    }

    /// A record at a revision: none if the memtable does not know it, and no value if it was deleted.
    pub(super) fn get(&self, table: Table, key: &[u8], at: Revision) -> Option<Option<&[u8]>> {
        self.at(self.records.get(&table)?.get(key)?, at)
    }

    /// The records of a range that the memtable has at a revision, including deleted ones.
    pub(super) fn range<'a>(
        &'a self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        at: Revision,
    ) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
        let Some(records) = self.records.get(&table) else {
            return Box::new(std::iter::empty());
        };
        let found = records.range::<[u8], _>(range);
        let known = move |(key, versions): (&'a Vec<u8>, &'a Vec<RecordVersion>)| {
            Some((key.as_slice(), self.at(versions, at)?))
        };
        match order {
            Order::Ascending => Box::new(found.filter_map(known)),
            Order::Descending => Box::new(found.rev().filter_map(known)),
        }
    }

    fn at(&self, versions: &[RecordVersion], at: Revision) -> Option<Option<&[u8]>> {
        let later = versions.partition_point(|version| version.revision <= at);
        let version = versions[..later].last()?;
        Some(self.value(version))
    }

    fn value(&self, version: &RecordVersion) -> Option<&[u8]> {
        self.batches[version.batch][version.commit].writes[version.write]
            .value
            .as_deref()
    }
}

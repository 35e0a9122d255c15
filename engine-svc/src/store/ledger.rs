//! Records that begin, change and end: one shape of tables for commands and for tasks.
//!
//! | table | key | value |
//! |---|---|---|
//! | `records` | the record's sequence, given at creation | the record |
//! | `ids` | the UUID | the sequence |
//! | `live` | the sequence | nothing: the record, or the tree that it is the root of, is part of the working state |
//! | `ended` | the time of its end, the sequence | nothing |
//!
//! A start reads only the rows in `live`, a snapshot only `live` and the younger part of `ended`: a hundred thousand
//! old records slow down neither.

use std::marker::PhantomData;
use std::ops::{Bound, Range};

use bytes::Bytes;
use common::time::Timestamp;
use prost::Message;
use proto::encode;
use store::{Order, Pair, Reader, StoreError, Table, Write};

use super::key;
use super::scan::{Scan, decode, next, readable, write};

/// The four tables of one kind of record.
#[derive(Debug)]
pub(crate) struct Ledger<R> {
    records: Table,
    ids: Table,
    live: Table,
    ended: Table,
    record: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Ledger<R> {
    pub(super) const fn new(records: Table, ids: Table, live: Table, ended: Table) -> Self {
        Self {
            records,
            ids,
            live,
            ended,
            record: PhantomData,
        }
    }

    /// Whether the table of this name contains the records.
    pub(super) fn is_of(&self, table: &str) -> bool {
        self.records.0 == table
    }

    /// The record of this UUID.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, or is no such record.
    pub(crate) fn get(&self, reader: &dyn Reader, id: &[u8; 16]) -> Result<Option<R>, StoreError> {
        Ok(self.find(reader, id)?.map(|(_, record)| record))
    }

    /// The record of this UUID, with its sequence.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, or is no such record.
    pub(crate) fn find(&self, reader: &dyn Reader, id: &[u8; 16]) -> Result<Option<(u64, R)>, StoreError> {
        let Some(seq) = self.sequence_of(reader, id)? else {
            return Ok(None);
        };
        let record = reader.get(self.records, &key::sequence(seq))?;
        let record = record.map(|bytes| decode(self.records, &bytes)).transpose()?;
        Ok(record.map(|record| (seq, record)))
    }

    /// The records before `before` (none: from the newest), newest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn newest(
        &self,
        reader: &dyn Reader,
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Scan<R>, StoreError> {
        let range = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
        let pairs = reader.scan(self.records, range, Order::Descending, limit)?;
        Ok(Scan::of(self.records, pairs, limit))
    }

    /// The records of the working state after `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn live(
        &self,
        reader: &dyn Reader,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Scan<R>, StoreError> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let keys = reader.scan(self.live, range, Order::Ascending, limit)?;
        self.follow(reader, keys, limit, |key| Some(key.to_vec()))
    }

    /// The records that ended at `since` or later, after the index key `after`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn ended_since(
        &self,
        reader: &dyn Reader,
        since: Timestamp,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Scan<R>, StoreError> {
        let since = key::moment(since);
        let start = after.map_or(Bound::Included(since.as_slice()), Bound::Excluded);
        let keys = reader.scan(self.ended, (start, Bound::Unbounded), Order::Ascending, limit)?;
        self.follow(reader, keys, limit, |key| {
            key::ended_sequence(key).map(key::sequence)
        })
    }

    /// The records that ended within these times, the oldest first, after the index key `after`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn ended_within(
        &self,
        reader: &dyn Reader,
        times: &Range<Timestamp>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Scan<R>, StoreError> {
        let (from, to) = (key::moment(times.start), key::moment(times.end));
        let start = after.map_or(Bound::Included(from.as_slice()), Bound::Excluded);
        let range = (start, Bound::Excluded(to.as_slice()));
        let keys = reader.scan(self.ended, range, Order::Ascending, limit)?;
        self.follow(reader, keys, limit, |key| {
            key::ended_sequence(key).map(key::sequence)
        })
    }

    /// The sequence of the newest record; 0 if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn last_sequence(&self, reader: &dyn Reader) -> Result<u64, StoreError> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let newest = reader.scan(self.records, everything, Order::Descending, 1)?;
        Ok(newest
            .first()
            .and_then(|(key, _)| key::read_sequence(key))
            .unwrap_or(0))
    }

    fn follow(
        &self,
        reader: &dyn Reader,
        keys: Vec<Pair>,
        limit: usize,
        to_record: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Scan<R>, StoreError> {
        let next = next(&keys, limit);
        let mut found = Vec::with_capacity(keys.len());
        for (key, _) in keys {
            let Some(record) = to_record(&key) else { continue };
            if let Some(bytes) = reader.get(self.records, &record)? {
                found.extend(readable(self.records, &bytes).map(|record| (key, record)));
            }
        }
        Ok(Scan { found, next })
    }

    /// The write of a record: its shown form, which is its first field, and `rest`, which leaves that field unset.
    pub(super) fn put(&self, seq: u64, shown: &Bytes, rest: &R) -> Write {
        write(
            self.records,
            key::sequence(seq),
            Some(encode::around(shown, rest)),
        )
    }

    /// The additional write for a new record, which makes it found by its id.
    pub(super) fn begin(&self, seq: u64, id: &[u8; 16]) -> Write {
        write(self.ids, id.to_vec(), Some(key::sequence(seq)))
    }

    /// The record, or the tree below it, is part of the working state.
    pub(super) fn enter(&self, seq: u64) -> Write {
        write(self.live, key::sequence(seq), Some(Vec::new()))
    }

    /// The additional write for a record that has ended. Harmless if repeated.
    pub(super) fn end(&self, seq: u64, time: Timestamp) -> Write {
        write(self.ended, key::ended(time, seq), Some(Vec::new()))
    }

    /// The record is no longer part of the working state. Harmless if repeated.
    pub(super) fn leave(&self, seq: u64) -> Write {
        write(self.live, key::sequence(seq), None)
    }

    /// Removes a record, with the note of its end.
    pub(super) fn remove(&self, seq: u64, id: &[u8; 16], ended: Option<Timestamp>) -> Vec<Write> {
        let ended = ended.map(|time| write(self.ended, key::ended(time, seq), None));
        let record = write(self.records, key::sequence(seq), None);
        [record, write(self.ids, id.to_vec(), None), self.leave(seq)]
            .into_iter()
            .chain(ended)
            .collect()
    }

    /// The sequence under which a record of this UUID is kept.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn sequence_of(&self, reader: &dyn Reader, id: &[u8; 16]) -> Result<Option<u64>, StoreError> {
        Ok(reader.get(self.ids, id)?.as_deref().and_then(key::read_sequence))
    }
}

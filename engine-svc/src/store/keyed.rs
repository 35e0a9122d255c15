//! Records without history: hosts, domains, disks, VMs. One table for each kind, keyed by the UUID.

use std::marker::PhantomData;
use std::ops::Bound;

use prost::Message;
use store::{Order, Reader, StoreError, Table, Write};

use super::scan::{Scan, decode, write};

/// The table of one kind of entity.
#[derive(Debug)]
pub(crate) struct Keyed<R> {
    table: Table,
    record: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Keyed<R> {
    pub(super) const fn new(table: Table) -> Self {
        Self {
            table,
            record: PhantomData,
        }
    }

    /// The record of this UUID.
    ///
    /// # Errors
    /// [`StoreError`] if the record cannot be read, or is of another kind.
    pub(crate) fn get(&self, reader: &dyn Reader, id: &[u8; 16]) -> Result<Option<R>, StoreError> {
        let record = reader.get(self.table, id)?;
        record.map(|bytes| decode(self.table, &bytes)).transpose()
    }

    /// The records after the key `after`, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn page(
        &self,
        reader: &dyn Reader,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Scan<R>, StoreError> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let pairs = reader.scan(self.table, range, Order::Ascending, limit)?;
        Ok(Scan::of(self.table, pairs, limit))
    }

    /// Puts a record.
    pub(super) fn put(&self, id: &[u8; 16], record: &R) -> Write {
        write(self.table, id.to_vec(), Some(record.encode_to_vec()))
    }

    /// Removes a record. Harmless if there is none.
    pub(super) fn remove(&self, id: &[u8; 16]) -> Write {
        write(self.table, id.to_vec(), None)
    }
}

//! redb alone: the same tables, kinds of keys, bytes and settings as the services' store, and durable transactions.
//!
//! A history table with a counted key, record tables with keys of bytes, one transaction for a batch of revisions,
//! `Durability::Immediate`, the services' cache size, and no quick repair, as in the services' stores while they
//! are as small as here.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{Database, TableDefinition};
use tests::{Failure, TestResult};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const HISTORY: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("history");

/// The services' default.
const CACHE_BYTES: usize = 64 << 20;

/// A record to be put: table, key, value.
pub(crate) type Put = (&'static str, Vec<u8>, Vec<u8>);

/// One revision: what the history keeps of it, and the records that it changes.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    /// As it lies in the history.
    pub(crate) history: Vec<u8>,
    /// The records.
    pub(crate) puts: Vec<Put>,
}

/// Revisions that share a transaction, ready to be written: each record once, as the last of them leaves it.
#[derive(Debug)]
pub(crate) struct Batch {
    history: Vec<Vec<u8>>,
    records: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Batch {
    /// From revisions in their order.
    pub(crate) fn new(revisions: impl IntoIterator<Item = Revision>) -> Self {
        let mut batch = Self {
            history: Vec::new(),
            records: BTreeMap::new(),
        };
        for Revision { history, puts } in revisions {
            batch.history.push(history);
            for (table, key, value) in puts {
                batch.records.entry(table).or_default().insert(key, value);
            }
        }
        batch
    }
}

/// A database of nobody.
#[derive(Debug)]
pub(crate) struct BareStore {
    database: Database,
    next: u64,
}

impl BareStore {
    /// A new one in `dir`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn create(dir: &Path) -> TestResult<Self> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(dir.join("bare.redb"))
            .map_err(failed)?;
        Ok(Self { database, next: 1 })
    }

    /// One durable transaction.
    ///
    /// # Errors
    /// Where the database cannot be written.
    pub(crate) fn commit(&mut self, batch: &Batch) -> TestResult<()> {
        let transaction = self.database.begin_write().map_err(failed)?;
        {
            let mut history = transaction.open_table(HISTORY).map_err(failed)?;
            for value in &batch.history {
                history.insert(self.next, value.as_slice()).map_err(failed)?;
                self.next += 1;
            }
        }
        for (name, records) in &batch.records {
            let mut table = transaction.open_table(Bytes::new(name)).map_err(failed)?;
            for (key, value) in records {
                table.insert(key.as_slice(), value.as_slice()).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }
}

fn failed(error: impl Into<redb::Error>) -> Failure {
    Failure::new(format!("the bare database: {}", error.into()))
}

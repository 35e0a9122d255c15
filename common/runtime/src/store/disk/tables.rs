//! The tables of a store, in one file of redb. What the write-ahead log holds is brought into them many revisions at a
//! time, each time in one durable transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | one per [`Table`] | the record's | the record's |
//! | `runtime/history_rows` | the last of some revisions | what they recorded |
//! | `runtime/starts` | counted from 0 | the start, and the revision that it began after |
//! | `runtime/meta` | a name | `store_id`: 16 bytes; `oldest`: a revision; `wal_seed`: 8 bytes, while the log is in use |
//!
//! *Repair.* After a kill redb rebuilds its allocator's state by walking the whole file: 0.6 to 1.6 ms per MB. "Quick
//! repair" records that state with each transaction instead, and opens in a millisecond whatever the size. It makes a
//! transaction dearer, which matters little where one carries thousands of revisions.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::id::StoreId;
use common::revision::{Revision, Start};
use redb::backends::FileBackend;
use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable,
    StorageError, TableDefinition, TableError, TableHandle as _, WriteTransaction,
};
use uuid::Uuid;

use super::frame::Seed;
use super::layer::Layer;
use super::pace::Pace;
use super::paced_file::PacedFile;
use super::row::{self, Row};
use crate::store::spans::Spans;
use crate::store::{Identity, Order, Pair, Recorded, StoreError, Table};

type Records<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// What the names of the store's own tables begin with.
const OWN: &str = "runtime/";

const HISTORY: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("runtime/history_rows");
/// A row for each revision: no released build has written any.
const HISTORY_OF_OLD: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("runtime/history");
const STARTS: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("runtime/starts");
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("runtime/meta");
const STORE_ID: &str = "store_id";
const OLDEST: &str = "oldest";
const WAL_SEED: &str = "wal_seed";

/// The file in the data directory.
pub(super) const FILE: &str = "store.redb";

/// Trimmed revisions that one transaction takes out, beside twice as many as it puts in: so it keeps up with any rate,
/// and is over soon.
const TRIM_PIECE: u64 = 10_000;

/// Records between two looks at the time: a tenth of a millisecond's work.
const REST_EVERY: u64 = 8;

/// How long a file that another process has open is waited for. A child that a killed service had just forked holds
/// its files until it has become another program: for a moment, and the service may be started again within it.
const TAKEN_PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at it.
const TAKEN_PAUSE: Duration = Duration::from_millis(20);

/// What must fit on the disk before a database that failed is opened again: opening writes, and while it has
/// not begun the old one still serves reads.
const PROBE_BYTES: usize = 256 << 10;

/// The file is locked: a second open, from another process too, is refused.
#[derive(Debug)]
pub(super) struct Tables {
    path: PathBuf,
    cache_bytes: usize,
    pace: Arc<Pace>,
    /// None only after an attempt to open it again has failed.
    database: Option<Database>,
}

/// What an earlier start left.
#[derive(Debug)]
pub(super) struct Left {
    /// None where the store is new.
    pub start: Option<Start>,
    /// The last revision in the tables.
    pub current: Revision,
    /// Of the log, where it has to be looked at.
    pub seed: Option<Seed>,
}

impl Tables {
    /// Opens or makes the file in a data directory. It is written at this pace.
    pub(super) fn open(dir: &Path, cache_bytes: usize, pace: &Arc<Pace>) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        Ok(Self {
            database: Some(open_file(&path, cache_bytes, pace)?),
            path,
            cache_bytes,
            pace: Arc::clone(pace),
        })
    }

    /// What an earlier start left.
    pub(super) fn left(&self) -> Result<Left, StoreError> {
        let transaction = self.database()?.begin_read().map_err(failed)?;
        if existing(transaction.open_table(HISTORY_OF_OLD))?.is_some() {
            return Err(StoreError::Unavailable(format!(
                "{} was made by a build from before the first release, and cannot be read any more: start with an \
                 empty data directory",
                self.path.display()
            )));
        }
        let Some(meta) = existing(transaction.open_table(META))? else {
            return Ok(Left {
                start: None,
                current: Revision(0),
                seed: None,
            });
        };
        let starts = transaction.open_table(STARTS).map_err(failed)?;
        let last = starts.last().map_err(failed)?;
        Ok(Left {
            start: last.map(|(_, start)| Start(start.value().0)),
            current: current(&transaction)?,
            seed: fixed(&meta, WAL_SEED)?,
        })
    }

    /// Reads whose store it is, and records a new start, whose log is of `seed`.
    pub(super) fn begin(&self, seed: Seed) -> Result<(Identity, Spans), StoreError> {
        let transaction = self.write()?;
        let begun = begin(&transaction, seed)?;
        transaction.commit().map_err(failed)?;
        Ok(begun)
    }

    /// Brings revisions of `start` into the tables, and takes out some of those up to and including `oldest`; says
    /// whether more of them are left. May be done again if its outcome is unknown.
    pub(super) fn apply(&self, layer: &Layer, start: Start, oldest: Revision) -> Result<bool, StoreError> {
        let transaction = self.write()?;
        let count = put_history(&transaction, layer, start, &self.pace)?;
        put_records(&transaction, layer, &self.pace)?;
        let more = forget(&transaction, oldest, TRIM_PIECE + 2 * count)?;
        // Immediate is redb's default: `commit` returns when the data is on disk.
        transaction.commit().map_err(failed)?;
        Ok(more)
    }

    /// The log need not be looked at any more: all that it holds is here.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let transaction = self.write()?;
        {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.remove(WAL_SEED).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// The last committed picture of the tables.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let transaction = self.database()?.begin_read().map_err(failed)?;
        let mut records = BTreeMap::new();
        for table in transaction.list_tables().map_err(failed)? {
            if !table.name().starts_with(OWN) {
                let opened = transaction.open_table(Records::new(table.name()));
                records.insert(table.name().to_owned(), opened.map_err(failed)?);
            }
        }
        Ok(Snapshot { transaction, records })
    }

    /// Tells whether the disk takes writes again.
    pub(super) fn probe(&self) -> io::Result<()> {
        let path = self.path.with_extension("probe");
        let outcome = File::create(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, &vec![0; PROBE_BYTES])?;
            file.sync_all()
        });
        let removed = fs::remove_file(&path);
        outcome.and(removed)
    }

    /// After a failed transaction: opens the file again. All snapshots must be gone or go soon.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        // The lock on the file is held until the old one is gone.
        drop(self.database.take());
        self.database = Some(open_file(&self.path, self.cache_bytes, &self.pace)?);
        Ok(())
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn database(&self) -> Result<&Database, StoreError> {
        self.database.as_ref().ok_or_else(|| {
            StoreError::Unavailable(format!("{} is closed after an error", self.path.display()))
        })
    }

    fn write(&self) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.database()?.begin_write().map_err(failed)?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }
}

/// One read transaction.
pub(super) struct Snapshot {
    transaction: ReadTransaction,
    /// The tables that there are, opened once: it is asked far more often than it is made.
    records: BTreeMap<String, ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Snapshot {
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(table) = self.records.get(table.0) else {
            return Ok(None);
        };
        let value = table.get(key).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// The records of a range, read as they are asked for.
    pub(super) fn range(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<Pair, StoreError>>>, StoreError> {
        let Some(table) = self.records.get(table.0) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let found = table.range::<&[u8]>(range).map_err(failed)?;
        Ok(match order {
            Order::Ascending => Box::new(found.map(to_pair)),
            Order::Descending => Box::new(found.rev().map(to_pair)),
        })
    }

    pub(super) fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let table = self.transaction.open_table(HISTORY).map_err(failed)?;
        let mut found = Vec::new();
        for row in table.range(after.next().0..).map_err(failed)? {
            if found.len() >= limit {
                break;
            }
            let (last, row) = row.map_err(failed)?;
            let revisions = row::revisions(Revision(last.value()), row.value())?;
            found.extend(revisions.into_iter().filter(|recorded| recorded.revision > after));
        }
        found.truncate(limit);
        Ok(found)
    }

    pub(super) fn revision(&self) -> Result<Revision, StoreError> {
        current(&self.transaction)
    }

    pub(super) fn oldest(&self) -> Result<Revision, StoreError> {
        stored_oldest(&self.transaction.open_table(META).map_err(failed)?)
    }
}

type Found<'a> = Result<(AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>), StorageError>;

fn to_pair(found: Found<'_>) -> Result<Pair, StoreError> {
    let (key, value) = found.map_err(failed)?;
    Ok((key.value().to_vec(), value.value().to_vec()))
}

fn open_file(path: &Path, cache_bytes: usize, pace: &Arc<Pace>) -> Result<Database, StoreError> {
    let given_up = Instant::now() + TAKEN_PATIENCE;
    let is_over = || {
        std::thread::sleep(TAKEN_PAUSE);
        Instant::now() >= given_up
    };
    while_taken(is_over, || {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let file = PacedFile::new(FileBackend::new(file)?, Arc::clone(pace));
        Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(file)
    })
    .map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Unavailable(format!(
            "{} is open already: another process of this service uses the data directory",
            path.display()
        )),
        error => failed(error),
    })
}

/// Tries again while somebody else has it open, until that `is_over`, which waits a little.
fn while_taken<T>(
    is_over: impl Fn() -> bool,
    open: impl Fn() -> Result<T, redb::DatabaseError>,
) -> Result<T, redb::DatabaseError> {
    loop {
        match open() {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) if !is_over() => {}
            outcome => return outcome,
        }
    }
}

fn begin(transaction: &WriteTransaction, seed: Seed) -> Result<(Identity, Spans), StoreError> {
    let mut meta = transaction.open_table(META).map_err(failed)?;
    let history = transaction.open_table(HISTORY).map_err(failed)?;
    let mut starts = transaction.open_table(STARTS).map_err(failed)?;
    let store_id = match fixed(&meta, STORE_ID)? {
        Some(id) => StoreId::from_uuid(Uuid::from_bytes(id)),
        None => StoreId::from_uuid(Uuid::new_v4()),
    };
    meta.insert(STORE_ID, store_id.as_bytes().as_slice())
        .map_err(failed)?;
    meta.insert(WAL_SEED, seed.as_slice()).map_err(failed)?;
    let last = history
        .last()
        .map_err(failed)?
        .map(|(revision, _)| revision.value());
    let current = match last {
        Some(revision) => Revision(revision),
        None => stored_oldest(&meta)?,
    };
    let mut spans = Spans::default();
    for record in starts.range::<u64>(..).map_err(failed)? {
        let (start, after) = record.map_err(failed)?.1.value();
        spans.push(Start(start), Revision(after));
    }
    let start = Start(rand::random());
    starts
        .insert(spans.len() as u64, (start.0, current.0))
        .map_err(failed)?;
    spans.push(start, current);
    Ok((Identity { store_id, start }, spans))
}

/// Says how many there are.
fn put_history(
    transaction: &WriteTransaction,
    layer: &Layer,
    start: Start,
    pace: &Pace,
) -> Result<u64, StoreError> {
    let mut table = transaction.open_table(HISTORY).map_err(failed)?;
    let mut put = |last: u64, row: &[u8]| table.insert(last, row).map(drop).map_err(failed);
    let mut row = Row::of(start);
    let mut count = 0;
    for commit in layer.commits() {
        rest(pace, count);
        row.push(commit)?;
        if row.is_full() {
            row.take(&mut put)?;
        }
        count += 1;
    }
    row.take(&mut put)?;
    Ok(count)
}

fn rest(pace: &Pace, count: u64) {
    if count.is_multiple_of(REST_EVERY) {
        pace.rest();
    }
}

/// Writes each record once, as the last revision leaves it, table by table and in the order of the keys.
fn put_records(transaction: &WriteTransaction, layer: &Layer, pace: &Pace) -> Result<(), StoreError> {
    for (table, records) in layer.tables() {
        let mut table = transaction.open_table(Records::new(table.0)).map_err(failed)?;
        for ((key, value), count) in records.zip(0..) {
            rest(pace, count);
            match value {
                Some(value) => drop(table.insert(key, value).map_err(failed)?),
                None => drop(table.remove(key).map_err(failed)?),
            }
        }
    }
    Ok(())
}

/// Takes out up to `limit` revisions of those up to and including `oldest`, which is recorded; says whether there may be
/// more.
fn forget(transaction: &WriteTransaction, oldest: Revision, limit: u64) -> Result<bool, StoreError> {
    let mut meta = transaction.open_table(META).map_err(failed)?;
    let mut history = transaction.open_table(HISTORY).map_err(failed)?;
    if oldest > stored_oldest(&meta)? {
        meta.insert(OLDEST, oldest.0.to_be_bytes().as_slice())
            .map_err(failed)?;
    }
    let Some(first) = history.first().map_err(failed)?.map(|(first, _)| first.value()) else {
        return Ok(false);
    };
    let through = oldest.0.min(first.saturating_add(limit));
    if first <= through {
        history.retain_in(..=through, |_, _| false).map_err(failed)?;
    }
    Ok(through < oldest.0)
}

fn current(transaction: &ReadTransaction) -> Result<Revision, StoreError> {
    let table = transaction.open_table(HISTORY).map_err(failed)?;
    match table.last().map_err(failed)? {
        Some((revision, _)) => Ok(Revision(revision.value())),
        None => stored_oldest(&transaction.open_table(META).map_err(failed)?),
    }
}

fn stored_oldest(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Revision, StoreError> {
    let stored = fixed(meta, OLDEST)?;
    Ok(Revision(stored.map_or(0, u64::from_be_bytes)))
}

fn fixed<const N: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<[u8; N]>, StoreError> {
    let Some(bytes) = meta.get(name).map_err(failed)? else {
        return Ok(None);
    };
    let fixed = bytes.value().try_into();
    fixed
        .map(Some)
        .map_err(|_| StoreError::Damaged(format!("its {name} is not {N} bytes long")))
}

/// A table that nobody has written to yet is an empty one.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, StoreError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        error => StoreError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use redb::DatabaseError::{DatabaseAlreadyOpen, UpgradeRequired};

    use super::*;

    #[test]
    fn what_is_let_go_of_in_a_moment_is_waited_for_and_nothing_else_is() {
        let left = Cell::new(3);
        let taken_thrice = || match left.get() {
            0 => Ok("open"),
            more => {
                left.set(more - 1);
                Err(DatabaseAlreadyOpen)
            }
        };
        assert!(matches!(while_taken(|| false, taken_thrice), Ok("open")));
        left.set(3);
        assert!(matches!(
            while_taken(|| left.get() == 1, taken_thrice),
            Err(DatabaseAlreadyOpen)
        ));
        let damaged = || Err::<(), _>(UpgradeRequired(1));
        assert!(matches!(while_taken(|| false, damaged), Err(UpgradeRequired(1))));
    }
}

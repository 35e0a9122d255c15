//! The tables of a store, in one file of redb. What the write-ahead log holds is brought into them many revisions at a
//! time, each time in one durable transaction: a checkpoint. The crate's text has the tables.
//!
//! *Proof.* redb has a checksum on each of its pages, and looks at them when it is asked to: at each start, before anything else
//! (`verify.rs`). Our own checksums find what goes wrong later, and are what `check` names a record by.
//!
//! *Repair.* After a kill redb rebuilds its allocator's state by walking the whole file: 0.6 to 1.6 ms per MB. "Quick
//! repair" records that state with each transaction instead, and opens in a millisecond whatever the size. It makes a
//! transaction dearer, which matters little where one carries thousands of revisions.

mod dictionary;
mod history_row;
mod rebuild;
mod record;
mod snapshot;
mod walk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::id::StoreId;
use common::revision::{Revision, Start};
use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};
use uuid::Uuid;

use self::dictionary::DictionaryWriter;
use self::history_row::Row;
pub(super) use self::rebuild::rebuild;
use self::record::{dictionary_of, encode};
pub(super) use self::snapshot::TableSnapshot;
pub(super) use self::walk::{Walked, walk};
use super::memtable::Memtable;
use super::throttle::Throttle;
use super::throttled_file::ThrottledFile;
use crate::data_dir::{self, Access};
use crate::starts::Starts;
use crate::{FamilyOf, StoreError};

type Records<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// What the names of the store's own tables begin with.
const OWN: &str = "runtime/";

const HISTORY: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("runtime/history_rows");
const STARTS: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("runtime/starts");
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("runtime/meta");
const STORE_ID: &str = "store_id";
const OLDEST: &str = "oldest";
const GENERATION: &str = "generation";

/// Instead of a generation: the whole log of a start that has ended is in the tables.
pub(super) const ALL_GENERATIONS: u64 = u64::MAX;

/// The file in the data directory.
pub(super) const FILE: &str = "store.redb";

/// Trimmed revisions that one transaction takes out, beside twice as many as it puts in: so it keeps up with any rate,
/// and is over soon.
const TRIM_PIECE: u64 = 10_000;

/// Records between two looks at the time: a tenth of a millisecond's work.
const REST_EVERY: u64 = 8;

/// What must fit on the disk before a database that failed is opened again: opening writes, and while it has
/// not begun the old one still serves reads.
const PROBE_BYTES: usize = 256 << 10;

/// The file is locked: a second open, from another process too, is refused.
#[derive(Debug)]
pub(super) struct Tables {
    path: PathBuf,
    cache_bytes: usize,
    family_of: FamilyOf,
    throttle: Arc<Throttle>,
    /// None only after an attempt to open it again has failed.
    database: Option<Database>,
}

/// What the last checkpoint says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LastCheckpoint {
    /// None where the store is new.
    pub store_id: Option<StoreId>,
    pub start: Option<Start>,
    /// The last revision in the tables.
    pub revision: Revision,
    /// The last generation of the log of which all is in the tables.
    pub generation: u64,
}

impl Tables {
    /// Opens or makes the file in a data directory. It is written at this throttle.
    pub(super) fn open(
        dir: &Path,
        cache_bytes: usize,
        family_of: FamilyOf,
        throttle: &Arc<Throttle>,
    ) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        Ok(Self {
            database: Some(open_file(&path, cache_bytes, throttle)?),
            path,
            cache_bytes,
            family_of,
            throttle: Arc::clone(throttle),
        })
    }

    /// Records a new start of a store; again, where an open was cut off.
    pub(super) fn begin(&self, store_id: StoreId, start: Start) -> Result<Starts, StoreError> {
        let transaction = self.write()?;
        let starts = begin(&transaction, store_id, start)?;
        transaction.commit().map_err(failed)?;
        Ok(starts)
    }

    /// Brings revisions of `start` into the tables, which were in the log up to and including a generation, and takes out some of those up
    /// to and including `oldest`; says whether more of them are left. May be done again if its outcome is unknown.
    pub(super) fn apply(
        &self,
        memtable: &Memtable,
        start: Start,
        generation: u64,
        oldest: Revision,
    ) -> Result<bool, StoreError> {
        let transaction = self.write()?;
        put_generation(&transaction, generation)?;
        let mut dictionaries = DictionaryWriter::open(&transaction, memtable, self.family_of)?;
        put_records(&transaction, memtable, &mut dictionaries, &self.throttle)?;
        let count = put_history(&transaction, memtable, start, &mut dictionaries, &self.throttle)?;
        let more = forget(&transaction, oldest, TRIM_PIECE + 2 * count, &mut dictionaries)?;
        dictionaries.finish()?;
        // Immediate is redb's default: `commit` returns when the data is on disk.
        transaction.commit().map_err(failed)?;
        Ok(more)
    }

    /// The tables as they were committed last.
    pub(super) fn snapshot(&self) -> Result<TableSnapshot, StoreError> {
        let transaction = self.database()?.begin_read().map_err(failed)?;
        TableSnapshot::of(transaction)
    }

    /// Tells whether the disk takes writes again.
    pub(super) fn probe(&self) -> io::Result<()> {
        let path = self.path.with_extension("probe");
        let outcome = data_dir::create(&path).and_then(|mut file| {
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
        self.database = Some(open_file(&self.path, self.cache_bytes, &self.throttle)?);
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

fn open_file(path: &Path, cache_bytes: usize, throttle: &Arc<Throttle>) -> Result<Database, StoreError> {
    let file = data_dir::open(path, Access::ReadWrite).map_err(|error| super::at(path, &error))?;
    let open = || {
        let file = ThrottledFile::new(FileBackend::new(file)?, Arc::clone(throttle));
        Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(file)
    };
    open().map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Unavailable(format!(
            "{} is open already: another process uses the data directory",
            path.display()
        )),
        error => failed(error),
    })
}

/// The last checkpoint of tables that are looked at.
///
/// # Errors
/// [`StoreError`] where they cannot be read.
pub(super) fn last_checkpoint(database: &Database) -> Result<LastCheckpoint, StoreError> {
    read_checkpoint(&database.begin_read().map_err(failed)?)
}

fn read_checkpoint(transaction: &ReadTransaction) -> Result<LastCheckpoint, StoreError> {
    let Some(meta) = existing(transaction.open_table(META))? else {
        return Ok(LastCheckpoint::default());
    };
    let starts = transaction.open_table(STARTS).map_err(failed)?;
    let last = starts.last().map_err(failed)?;
    Ok(LastCheckpoint {
        store_id: fixed(&meta, STORE_ID)?.map(|id| StoreId::from_uuid(Uuid::from_bytes(id))),
        start: last.map(|(_, start)| Start(start.value().0)),
        revision: current(transaction)?,
        generation: fixed(&meta, GENERATION)?.map_or(0, u64::from_be_bytes),
    })
}

fn begin(transaction: &WriteTransaction, store_id: StoreId, start: Start) -> Result<Starts, StoreError> {
    put_generation(transaction, 0)?;
    let mut meta = transaction.open_table(META).map_err(failed)?;
    let history = transaction.open_table(HISTORY).map_err(failed)?;
    let mut starts = transaction.open_table(STARTS).map_err(failed)?;
    meta.insert(STORE_ID, store_id.as_bytes().as_slice())
        .map_err(failed)?;
    let last = history
        .last()
        .map_err(failed)?
        .map(|(revision, _)| revision.value());
    let current = match last {
        Some(revision) => Revision(revision),
        None => stored_oldest(&meta)?,
    };
    let mut known = Starts::default();
    for record in starts.range::<u64>(..).map_err(failed)? {
        let (start, after) = record.map_err(failed)?.1.value();
        known.push(Start(start), Revision(after));
    }
    if known.find(start, current).is_none() {
        starts
            .insert(known.len() as u64, (start.0, current.0))
            .map_err(failed)?;
        known.push(start, current);
    }
    Ok(known)
}

fn put_generation(transaction: &WriteTransaction, generation: u64) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META).map_err(failed)?;
    let bytes = generation.to_be_bytes();
    meta.insert(GENERATION, bytes.as_slice())
        .map(drop)
        .map_err(failed)
}

/// Says how many there are.
fn put_history(
    transaction: &WriteTransaction,
    memtable: &Memtable,
    start: Start,
    dictionaries: &mut DictionaryWriter<'_>,
    throttle: &Throttle,
) -> Result<u64, StoreError> {
    let mut table = transaction.open_table(HISTORY).map_err(failed)?;
    let mut row = Row::of(start)?;
    let mut count = 0;
    for commit in memtable.commits() {
        rest(throttle, count);
        row.push(commit, || dictionaries.family(commit))?;
        if row.is_full() {
            put_row(&mut table, &mut row, dictionaries)?;
        }
        count += 1;
    }
    put_row(&mut table, &mut row, dictionaries)?;
    Ok(count)
}

fn put_row(
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    row: &mut Row,
    dictionaries: &mut DictionaryWriter<'_>,
) -> Result<(), StoreError> {
    let dictionary = match row.family() {
        Some(family) => dictionaries.of(&family)?,
        None => None,
    };
    if let Some((last, bytes)) = row.take(dictionary)? {
        let before = table.insert(last, bytes.as_slice()).map_err(failed)?;
        let before = before.and_then(|before| history_row::dictionary_of(before.value()));
        dictionaries.count(before, history_row::dictionary_of(&bytes));
    }
    Ok(())
}

fn rest(throttle: &Throttle, count: u64) {
    if count.is_multiple_of(REST_EVERY) {
        throttle.rest();
    }
}

/// Writes each record once, as the last revision leaves it, table by table and in the order of the keys.
fn put_records(
    transaction: &WriteTransaction,
    memtable: &Memtable,
    dictionaries: &mut DictionaryWriter<'_>,
    throttle: &Throttle,
) -> Result<(), StoreError> {
    for (name, records) in memtable.tables() {
        let mut table = transaction.open_table(Records::new(name.0)).map_err(failed)?;
        for ((key, value), count) in records.zip(0..) {
            rest(throttle, count);
            let row = match value {
                Some(value) => Some(encode(
                    name.0,
                    key,
                    value,
                    dictionaries.for_record(name.0, value)?,
                )?),
                None => None,
            };
            let before = match &row {
                Some(row) => table.insert(key, row.as_slice()),
                None => table.remove(key),
            };
            let before = before.map_err(failed)?;
            let before = before.and_then(|before| dictionary_of(before.value()));
            dictionaries.count(before, row.as_deref().and_then(dictionary_of));
        }
    }
    Ok(())
}

/// Takes out up to `limit` revisions of those up to and including `oldest`, which is recorded; says whether there may be
/// more.
fn forget(
    transaction: &WriteTransaction,
    oldest: Revision,
    limit: u64,
    dictionaries: &mut DictionaryWriter<'_>,
) -> Result<bool, StoreError> {
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
        let gone = |_, row: &[u8]| {
            dictionaries.count(history_row::dictionary_of(row), None);
            false
        };
        history.retain_in(..=through, gone).map_err(failed)?;
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

/// In our words first: redb's are for whoever knows its files.
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Damaged(format!(
            "{FILE} is damaged where it says what lies where, and cannot be read on (redb: {what})"
        )),
        error => StoreError::Unavailable(error.to_string()),
    }
}

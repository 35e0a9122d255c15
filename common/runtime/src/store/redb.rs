//! A store in one file of redb: each batch is one durable transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | one per [`Table`] | the record's | the record's |
//! | `runtime/history` | the revision | the encoding of a recorded revision |
//! | `runtime/starts` | counted from 0 | the start, and the revision that it began after |
//! | `runtime/meta` | a name | `store_id`: 16 bytes; `oldest`: a revision |
//!
//! *Repair.* After a kill redb rebuilds its allocator's state by walking the whole file: 0.6 to 1.6 ms per MB. "Quick
//! repair" records that state with each commit instead, which opens in a millisecond whatever the size, but costs a
//! commit more: twice the time alone and 1.4 times in groups of 64 where the processor is the bound, little where the
//! disk is. So it is used only from `QUICK_REPAIR_FROM_BYTES` on: below it a service is back within half a second
//! anyway, and above it the time to open stays bounded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use common::id::StoreId;
use common::revision::{Revision, Start};
use redb::{
    AccessGuard, Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable, StorageError,
    TableDefinition, TableError, WriteTransaction,
};
use uuid::Uuid;

use super::{
    Commit, Identity, Order, Pair, Reader, Recorded, StartSpan, Store, StoreError, Table, encoding,
    reserve::Reserve, spans::Spans,
};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const HISTORY: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("runtime/history");
const STARTS: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("runtime/starts");
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("runtime/meta");
const STORE_ID: &str = "store_id";
const OLDEST: &str = "oldest";

/// The file in the data directory.
const FILE: &str = "store.redb";

/// See the module's text: 256 MiB are repaired in about 0.4 s.
const QUICK_REPAIR_FROM_BYTES: u64 = 256 << 20;

/// Revisions that one [`Store::trim`] forgets: about a millisecond, in which no commit can begin.
const TRIM_PIECE: u64 = 2_000;

/// How long a file that another process has open is waited for. A child that a killed service had just forked holds
/// its files until it has become another program: for a moment, and the service may be started again within it.
const TAKEN_PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at it.
const TAKEN_PAUSE: Duration = Duration::from_millis(20);

/// What must fit on the disk before a database that failed is opened again: opening writes, and while it has
/// not begun the old one still serves reads.
const PROBE_BYTES: usize = 256 << 10;

/// A store on disk. The file is locked: a second open, from another process too, is refused.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    cache_bytes: usize,
    identity: Identity,
    /// None only after an attempt to open it again has failed.
    database: RwLock<Option<Database>>,
    spans: Mutex<Spans>,
    reserve: Reserve,
}

impl RedbStore {
    /// Opens or makes the store of a data directory, and records a new start.
    ///
    /// # Errors
    /// [`StoreError`], among others where another process has it open.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Arc<Self>, StoreError> {
        let path = dir.join(FILE);
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
        let database = open_file(&path, cache_bytes).or_else(|error| {
            // A repair writes: on a full disk, into what was held back.
            match Reserve::give_up_left(dir) {
                true => open_file(&path, cache_bytes),
                false => Err(error),
            }
        })?;
        // Only now: the store's lock keeps others from this directory.
        let reserve = Reserve::take(dir);
        // A file whose name is lost in a power cut would be another, empty store.
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| at(dir, &error))?;
        let (identity, spans) = begin(&database)?;
        Ok(Arc::new(Self {
            path,
            cache_bytes,
            identity,
            database: RwLock::new(Some(database)),
            spans: Mutex::new(spans),
            reserve,
        }))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| {
            StoreError::Unavailable(format!("{} is closed after an error", self.path.display()))
        })?;
        work(database)
    }

    fn read(&self) -> Result<Snapshot, StoreError> {
        let transaction = self.with(|database| database.begin_read().map_err(failed))?;
        let revision = current(&transaction)?;
        Ok(Snapshot {
            transaction,
            revision,
        })
    }

    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, database: &Database) -> Result<WriteTransaction, StoreError> {
        let mut transaction = database.begin_write().map_err(failed)?;
        let size = fs::metadata(&self.path).map_or(0, |file| file.len());
        transaction.set_quick_repair(size >= QUICK_REPAIR_FROM_BYTES);
        Ok(transaction)
    }
}

impl Store for RedbStore {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn commit(&self, batch: &[Commit]) -> Result<(), StoreError> {
        let Some(first) = batch.first() else { return Ok(()) };
        self.with(|database| {
            // Immediate is redb's default: `commit` returns when the data is on disk.
            let transaction = self.write(database)?;
            put_history(&transaction, self.identity.start, first.revision, batch)?;
            put_records(&transaction, batch)?;
            transaction.commit().map_err(failed)
        })
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(self.read()?))
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let snapshot = self.read()?;
        let table = snapshot.transaction.open_table(HISTORY).map_err(failed)?;
        let range = table.range(after.next().0..).map_err(failed)?;
        range
            .take(limit)
            .map(|pair| {
                let (revision, value) = pair.map_err(failed)?;
                encoding::decode(Revision(revision.value()), value.value())
            })
            .collect()
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        oldest(&self.read()?.transaction)
    }

    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError> {
        let current = self.read()?.revision;
        Ok(self.spans().find(start, current))
    }

    fn trim(&self, through: Revision) -> Result<bool, StoreError> {
        let (from, current) = {
            let snapshot = self.read()?;
            (oldest(&snapshot.transaction)?, snapshot.revision)
        };
        let through = through.min(current);
        if through <= from {
            return Ok(false);
        }
        let to = through.min(Revision(from.0 + TRIM_PIECE));
        self.with(|database| {
            let mut transaction = self.write(database)?;
            // Need not be durable by itself: what a crash brings back is trimmed again.
            transaction.set_durability(Durability::None).map_err(failed)?;
            forget(&transaction, to)?;
            transaction.commit().map_err(failed)
        })?;
        Ok(to < through)
    }

    fn has_room(&self) -> bool {
        self.reserve.is_held()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.reserve.give_up_if_full();
        let probed = probe(&self.path).or_else(|error| match error.kind() {
            // The file system has room, and we may have none of it.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.reserve.give_up();
                probe(&self.path)
            }
            _ => Err(error),
        });
        probed.map_err(|error| at(&self.path, &error))?;
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The lock on the file is held until the old one is gone.
        drop(guard.take());
        *guard = Some(open_file(&self.path, self.cache_bytes)?);
        Ok(())
    }
}

/// One read transaction.
struct Snapshot {
    transaction: ReadTransaction,
    revision: Revision,
}

impl Reader for Snapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(table) = existing(self.transaction.open_table(Bytes::new(table.0)))? else {
            return Ok(None);
        };
        let value = table.get(key).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let Some(table) = existing(self.transaction.open_table(Bytes::new(table.0)))? else {
            return Ok(Vec::new());
        };
        if super::is_empty_range(&range) {
            return Ok(Vec::new());
        }
        let found = table.range::<&[u8]>(range).map_err(failed)?;
        match order {
            Order::Ascending => found.take(limit).map(to_pair).collect(),
            Order::Descending => found.rev().take(limit).map(to_pair).collect(),
        }
    }
}

type Found<'a> = Result<(AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>), StorageError>;

fn to_pair(found: Found<'_>) -> Result<Pair, StoreError> {
    let (key, value) = found.map_err(failed)?;
    Ok((key.value().to_vec(), value.value().to_vec()))
}

fn open_file(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    let given_up = Instant::now() + TAKEN_PATIENCE;
    let is_over = || {
        std::thread::sleep(TAKEN_PAUSE);
        Instant::now() >= given_up
    };
    while_taken(is_over, || {
        Database::builder().set_cache_size(cache_bytes).create(path)
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

/// Reads whose store it is, and records this start.
fn begin(database: &Database) -> Result<(Identity, Spans), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    let (store_id, spans) = {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let history = transaction.open_table(HISTORY).map_err(failed)?;
        let mut starts = transaction.open_table(STARTS).map_err(failed)?;
        let known = meta.get(STORE_ID).map_err(failed)?.map(|id| id.value().to_vec());
        let store_id = match known {
            Some(id) => {
                StoreId::from_slice(&id).map_err(|_| StoreError::Damaged("its store_id is no UUID".into()))?
            }
            None => StoreId::from_uuid(Uuid::new_v4()),
        };
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
        (Identity { store_id, start }, spans)
    };
    transaction.commit().map_err(failed)?;
    Ok((store_id, spans))
}

fn put_history(
    transaction: &WriteTransaction,
    start: Start,
    first: Revision,
    batch: &[Commit],
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(HISTORY).map_err(failed)?;
    let mut value = Vec::new();
    for (commit, place) in batch.iter().zip(0..) {
        debug_assert_eq!(commit.revision.0, first.0 + place, "revisions are dense");
        encoding::encode(start, commit, &mut value);
        table
            .insert(commit.revision.0, value.as_slice())
            .map_err(failed)?;
    }
    Ok(())
}

/// Writes each record once, as the batch leaves it, table by table and in the order of the keys.
fn put_records(transaction: &WriteTransaction, batch: &[Commit]) -> Result<(), StoreError> {
    let mut last: BTreeMap<Table, BTreeMap<&[u8], Option<&[u8]>>> = BTreeMap::new();
    for write in batch.iter().flat_map(|commit| &commit.writes) {
        last.entry(write.table)
            .or_default()
            .insert(&write.key, write.value.as_deref());
    }
    for (table, records) in last {
        let mut table = transaction.open_table(Bytes::new(table.0)).map_err(failed)?;
        for (key, value) in records {
            match value {
                Some(value) => drop(table.insert(key, value).map_err(failed)?),
                None => drop(table.remove(key).map_err(failed)?),
            }
        }
    }
    Ok(())
}

fn forget(transaction: &WriteTransaction, through: Revision) -> Result<(), StoreError> {
    let mut history = transaction.open_table(HISTORY).map_err(failed)?;
    history.retain_in(..=through.0, |_, _| false).map_err(failed)?;
    let mut meta = transaction.open_table(META).map_err(failed)?;
    meta.insert(OLDEST, through.0.to_be_bytes().as_slice())
        .map_err(failed)?;
    Ok(())
}

fn current(transaction: &ReadTransaction) -> Result<Revision, StoreError> {
    let table = transaction.open_table(HISTORY).map_err(failed)?;
    match table.last().map_err(failed)? {
        Some((revision, _)) => Ok(Revision(revision.value())),
        None => oldest(transaction),
    }
}

fn oldest(transaction: &ReadTransaction) -> Result<Revision, StoreError> {
    stored_oldest(&transaction.open_table(META).map_err(failed)?)
}

fn stored_oldest(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Revision, StoreError> {
    match meta.get(OLDEST).map_err(failed)? {
        None => Ok(Revision(0)),
        Some(bytes) => <[u8; 8]>::try_from(bytes.value())
            .map(|bytes| Revision(u64::from_be_bytes(bytes)))
            .map_err(|_| StoreError::Damaged("the oldest revision is not 8 bytes long".into())),
    }
}

/// Tells whether the disk takes writes again.
fn probe(store: &Path) -> io::Result<()> {
    let path = store.with_extension("probe");
    let outcome = File::create(&path).and_then(|mut file| {
        io::Write::write_all(&mut file, &vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    outcome.and(removed)
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

fn at(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
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

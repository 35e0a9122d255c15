//! A store in memory: as exact as the one on disk, and as forgetful about starts as it is told to be.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::id::StoreId;
use common::revision::{Revision, Start};
use store::{
    Commit, Identity, Order, Pair, Reader, Recorded, StartSpan, Starts, Store, StoreError, Table, follows,
    is_empty_range,
};
use uuid::Uuid;

/// Revisions that one [`Store::trim`] forgets; small, so that tests see the pieces.
const TRIM_PIECE: u64 = 100;

type Records = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// What survives a crash: give it to [`MemoryStore::open`] again. A clone is the same disk; a
/// [`Disk::copy`] is a backup.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Clone)]
struct Content {
    store_id: StoreId,
    starts: Starts,
    oldest: Revision,
    revision: Revision,
    // Shared with the readers; copied when one of them still looks at it.
    records: Arc<Records>,
    history: BTreeMap<Revision, Recorded>,
}

impl Disk {
    /// An empty disk, with a store id of its own.
    pub fn new() -> Self {
        Self::of(StoreId::from_uuid(Uuid::new_v4()))
    }

    /// An empty disk with this store id.
    pub fn of(store_id: StoreId) -> Self {
        Self(Arc::new(Mutex::new(Content {
            store_id,
            starts: Starts::default(),
            oldest: Revision(0),
            revision: Revision(0),
            records: Arc::default(),
            history: BTreeMap::new(),
        })))
    }

    /// Another disk of the same content, as a restored backup is.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

/// A store on a [`Disk`] in memory.
#[derive(Debug)]
pub struct MemoryStore {
    disk: Disk,
    identity: Identity,
}

impl MemoryStore {
    /// A new store.
    #[allow(clippy::new_ret_no_self)] // Stores are shared; nobody needs one that is not.
    pub fn new() -> Arc<Self> {
        Self::open(Disk::new())
    }

    /// Opens a disk, as a new start.
    pub fn open(disk: Disk) -> Arc<Self> {
        Self::open_as(disk, Start(rand::random()))
    }

    /// Opens a disk, as this start.
    pub fn open_as(disk: Disk, start: Start) -> Arc<Self> {
        let mut content = disk.lock();
        let after = content.revision;
        content.starts.push(start, after);
        let store_id = content.store_id;
        drop(content);
        Arc::new(Self {
            disk,
            identity: Identity { store_id, start },
        })
    }

    /// What survives this store.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }
}

impl Store for MemoryStore {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn commit(&self, batch: Arc<[Commit]>) -> Result<(), StoreError> {
        let mut content = self.disk.lock();
        follows(content.revision, &batch)?;
        for commit in &*batch {
            content.revision = commit.revision;
            content.history.insert(
                commit.revision,
                Recorded {
                    revision: commit.revision,
                    start: self.identity.start,
                    time: commit.time,
                    history: commit.history.clone(),
                },
            );
            let records = Arc::make_mut(&mut content.records);
            for write in &commit.writes {
                let table = records.entry(write.table).or_default();
                match &write.value {
                    Some(value) => drop(table.insert(write.key.clone(), value.clone())),
                    None => drop(table.remove(&write.key)),
                }
            }
        }
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError> {
        let content = self.disk.lock();
        Ok(Box::new(Snapshot {
            revision: content.revision,
            records: Arc::clone(&content.records),
        }))
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let content = self.disk.lock();
        let found = content.history.range(after.next()..);
        Ok(found.take(limit).map(|(_, recorded)| recorded.clone()).collect())
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(self.disk.lock().oldest)
    }

    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError> {
        let content = self.disk.lock();
        Ok(content.starts.find(start, content.revision))
    }

    fn trim(&self, through: Revision) -> Result<bool, StoreError> {
        let mut content = self.disk.lock();
        let through = through.min(content.revision);
        if through <= content.oldest {
            return Ok(false);
        }
        content.oldest = through.min(Revision(content.oldest.0 + TRIM_PIECE));
        let rest = content.oldest.next();
        content.history = content.history.split_off(&rest);
        Ok(content.oldest < through)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Snapshot {
    revision: Revision,
    records: Arc<Records>,
}

impl Reader for Snapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .records
            .get(&table)
            .and_then(|records| records.get(key))
            .cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let Some(records) = self.records.get(&table).filter(|_| !is_empty_range(&range)) else {
            return Ok(Vec::new());
        };
        let found = records.range::<[u8], _>(range);
        let pair = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match order {
            Order::Ascending => found.take(limit).map(pair).collect(),
            Order::Descending => found.rev().take(limit).map(pair).collect(),
        })
    }
}

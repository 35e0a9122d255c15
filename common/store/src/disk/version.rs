//! What readers see: the tables as they are, and over them the memtables, which hold what is in the log only.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use common::revision::{Revision, Start};
use itertools::{EitherOrBoth, Itertools as _};

use super::backup::Take;
use super::memtable::Memtable;
use super::tables::TableSnapshot;
use crate::{Commit, Order, Pair, Reader, Recorded, StoreError, Table, is_empty_range};

type Shared = Arc<RwLock<Memtable>>;

/// The number of records that a walk reads at once, so that commits need not wait for the whole walk.
const PAGE: usize = 256;

/// The pieces that make up what is committed now. A checkpoint makes the next one of them.
pub(super) struct Version {
    /// None while the tables cannot be read.
    tables: Option<Arc<TableSnapshot>>,
    /// On its way into the tables.
    frozen: Option<Shared>,
    /// Follows the frozen one, or the tables.
    active: Shared,
    revision: Revision,
    oldest: Revision,
    /// The last that is in the tables, and the last that is when the frozen memtable is.
    written: Revision,
    frozen_end: Revision,
}

impl Version {
    /// Nothing but the tables.
    pub(super) fn of(tables: TableSnapshot) -> Result<Self, StoreError> {
        let revision = tables.revision()?;
        Ok(Self {
            revision,
            written: revision,
            frozen_end: revision,
            oldest: tables.oldest()?,
            tables: Some(Arc::new(tables)),
            frozen: None,
            active: Shared::default(),
        })
    }

    /// What is committed now, whatever is committed later.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while the tables cannot be read.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let tables = self
            .tables
            .clone()
            .ok_or_else(|| StoreError::Unavailable("the tables are closed after an error".to_owned()))?;
        Ok(Snapshot {
            tables,
            memtables: [Some(Arc::clone(&self.active)), self.frozen.clone()],
            revision: self.revision,
            oldest: self.oldest,
        })
    }

    pub(super) fn active(&self) -> Shared {
        Arc::clone(&self.active)
    }

    /// The last that can be seen.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// How many revisions are in memtables only.
    pub(super) fn unwritten(&self) -> u64 {
        self.revision.0.saturating_sub(self.written.0)
    }

    /// What was inserted is to be seen.
    pub(super) fn advance(&mut self, last: Revision) {
        self.revision = last;
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = Some(std::mem::take(&mut self.active));
        self.frozen_end = self.revision;
    }

    /// What a checkpoint is to bring into the tables, and what of the history need not be kept there.
    pub(super) fn frozen(&self) -> (Option<Shared>, Revision) {
        (self.frozen.clone(), self.oldest)
    }

    /// The frozen memtable is in these tables.
    pub(super) fn install(&mut self, tables: TableSnapshot) {
        self.tables = Some(Arc::new(tables));
        self.frozen = None;
        self.written = self.frozen_end;
    }

    /// The tables are closed, or open again.
    pub(super) fn replace(&mut self, tables: Option<TableSnapshot>) {
        self.tables = tables.map(Arc::new);
    }

    /// Forgets the history up to and including `through`; says whether there was any.
    pub(super) fn trim(&mut self, through: Revision) -> bool {
        let through = through.min(self.revision);
        let any = through > self.oldest;
        if any {
            self.oldest = through;
        }
        any
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("revision", &self.revision)
            .field("oldest", &self.oldest)
            .finish_non_exhaustive()
    }
}

/// What was committed up to one revision, whatever is committed meanwhile.
pub(super) struct Snapshot {
    tables: Arc<TableSnapshot>,
    /// The later one first.
    memtables: [Option<Shared>; 2],
    revision: Revision,
    oldest: Revision,
}

impl Snapshot {
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The revisions after `after`; those that are not in the tables are of `start`.
    pub(super) fn history(
        &self,
        after: Revision,
        limit: usize,
        start: Start,
    ) -> Result<Vec<Recorded>, StoreError> {
        let after = after.max(self.oldest);
        let mut found = self.tables.history(after, limit)?;
        for memtable in self.memtables.iter().rev().flatten() {
            let memtable = look(memtable);
            let next = found.last().map_or(after, |last| last.revision);
            let more = memtable
                .commits_after(next)
                .take_while(|commit| commit.revision <= self.revision)
                .take(limit - found.len());
            found.extend(more.map(|commit| Recorded {
                revision: commit.revision,
                start,
                time: commit.time,
                history: commit.history.clone(),
            }));
        }
        Ok(found)
    }
}

impl Snapshot {
    /// Has every record taken, table by table, in the order of the keys.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read; the first error of `take`.
    pub(super) fn walk(&self, take: Take<'_>) -> Result<(), StoreError> {
        let memtables = self.memtables.iter().flatten();
        let changed: BTreeSet<Table> = memtables
            .flat_map(|memtable| look(memtable).names().collect::<Vec<_>>())
            .collect();
        for table in &changed {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let page = self.scan(*table, (from, Bound::Unbounded), Order::Ascending, PAGE)?;
                for (key, value) in &page {
                    take(table.0, key, value)?;
                }
                match page.into_iter().next_back() {
                    Some((last, _)) => after = Some(last),
                    None => break,
                }
            }
        }
        let is_changed = |name: &str| changed.iter().any(|table| table.0 == name);
        self.tables.walk(|name| !is_changed(name), take)
    }
}

impl Reader for Snapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        for memtable in self.memtables.iter().flatten() {
            if let Some(value) = look(memtable).get(table, key, self.revision) {
                return Ok(value.map(<[u8]>::to_vec));
            }
        }
        self.tables.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        if is_empty_range(&range) {
            return Ok(Vec::new());
        }
        let [active, frozen] = self
            .memtables
            .each_ref()
            .map(|memtable| memtable.as_ref().map(|memtable| look(memtable)));
        let by_key = move |one: &[u8], other: &[u8]| match order {
            Order::Ascending => one.cmp(other),
            Order::Descending => other.cmp(one),
        };
        let [active, frozen] = [&active, &frozen].map(|memtable| {
            let memtable = memtable.as_deref();
            memtable
                .into_iter()
                .flat_map(|memtable| memtable.range(table, range, order, self.revision))
        });
        let memtables = active
            .merge_join_by(frozen, |one, other| by_key(one.0, other.0))
            .map(later);
        let stored = self.tables.range(table, range, order)?;
        memtables
            .merge_join_by(stored, |one, other| match other {
                Ok(other) => by_key(one.0, &other.0),
                // It is the end of all.
                Err(_) => Ordering::Greater,
            })
            .filter_map(|found| match found {
                EitherOrBoth::Right(stored) => Some(stored),
                EitherOrBoth::Left((key, value)) | EitherOrBoth::Both((key, value), _) => {
                    Some(Ok((key.to_vec(), value?.to_vec())))
                }
            })
            .take(limit)
            .collect()
    }
}

/// The one of two that is to be seen.
fn later<T>(found: EitherOrBoth<T, T>) -> T {
    found.reduce(|later, _| later)
}

/// Adds the batch that follows, which nobody sees yet.
pub(super) fn insert(active: &RwLock<Memtable>, batch: Arc<[Commit]>) {
    active
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(batch);
}

fn look(memtable: &RwLock<Memtable>) -> RwLockReadGuard<'_, Memtable> {
    memtable.read().unwrap_or_else(PoisonError::into_inner)
}

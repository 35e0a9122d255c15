//! What readers see: the tables as they are, and over them what is in the log only.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use common::revision::{Revision, Start};
use itertools::{EitherOrBoth, Itertools as _};

use super::layer::Layer;
use super::tables::Snapshot;
use crate::{Commit, Order, Pair, Reader, Recorded, StoreError, Table, is_empty_range};

type Shared = Arc<RwLock<Layer>>;

/// The present picture.
pub(super) struct View {
    /// None while the tables cannot be read.
    snapshot: Option<Arc<Snapshot>>,
    /// On its way into the tables.
    frozen: Option<Shared>,
    /// Follows the frozen one, or the tables.
    active: Shared,
    revision: Revision,
    oldest: Revision,
}

impl View {
    /// Nothing but the tables.
    pub(super) fn of(snapshot: Snapshot) -> Result<Self, StoreError> {
        Ok(Self {
            revision: snapshot.revision()?,
            oldest: snapshot.oldest()?,
            snapshot: Some(Arc::new(snapshot)),
            frozen: None,
            active: Shared::default(),
        })
    }

    pub(super) fn picture(&self) -> Result<Picture, StoreError> {
        let snapshot = self
            .snapshot
            .clone()
            .ok_or_else(|| StoreError::Unavailable("the tables are closed after an error".to_owned()))?;
        Ok(Picture {
            snapshot,
            layers: [Some(Arc::clone(&self.active)), self.frozen.clone()],
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

    /// What was pushed is to be seen.
    pub(super) fn advance(&mut self, last: Revision) {
        self.revision = last;
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = Some(std::mem::take(&mut self.active));
    }

    /// What is to be brought into the tables, and what of the history need not be kept there.
    pub(super) fn frozen(&self) -> (Option<Shared>, Revision) {
        (self.frozen.clone(), self.oldest)
    }

    /// What was frozen is in the tables.
    pub(super) fn thaw(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(Arc::new(snapshot));
        self.frozen = None;
    }

    /// The tables are closed, or open again.
    pub(super) fn replace(&mut self, snapshot: Option<Snapshot>) {
        self.snapshot = snapshot.map(Arc::new);
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

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("revision", &self.revision)
            .field("oldest", &self.oldest)
            .finish_non_exhaustive()
    }
}

/// One revision, whatever is committed meanwhile.
pub(super) struct Picture {
    snapshot: Arc<Snapshot>,
    /// The later one first.
    layers: [Option<Shared>; 2],
    revision: Revision,
    oldest: Revision,
}

impl Picture {
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
        let mut found = self.snapshot.history(after, limit)?;
        for layer in self.layers.iter().rev().flatten() {
            let layer = look(layer);
            let next = found.last().map_or(after, |last| last.revision);
            let more = layer
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

impl Reader for Picture {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        for layer in self.layers.iter().flatten() {
            if let Some(value) = look(layer).get(table, key, self.revision) {
                return Ok(value.map(<[u8]>::to_vec));
            }
        }
        self.snapshot.get(table, key)
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
            .layers
            .each_ref()
            .map(|layer| layer.as_ref().map(|layer| look(layer)));
        let by_key = move |one: &[u8], other: &[u8]| match order {
            Order::Ascending => one.cmp(other),
            Order::Descending => other.cmp(one),
        };
        let [active, frozen] = [&active, &frozen].map(|layer| {
            let layer = layer.as_deref();
            layer
                .into_iter()
                .flat_map(|layer| layer.range(table, range, order, self.revision))
        });
        let layers = active
            .merge_join_by(frozen, |one, other| by_key(one.0, other.0))
            .map(later);
        let stored = self.snapshot.range(table, range, order)?;
        layers
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
pub(super) fn push(active: &RwLock<Layer>, batch: Arc<[Commit]>) {
    active.write().unwrap_or_else(PoisonError::into_inner).push(batch);
}

fn look(layer: &RwLock<Layer>) -> RwLockReadGuard<'_, Layer> {
    layer.read().unwrap_or_else(PoisonError::into_inner)
}

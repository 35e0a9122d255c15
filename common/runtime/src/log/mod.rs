//! The log of revisions in order: the newest ones in memory, the rest in the store.
//!
//! Any number of watches read it at their own pace, each with its own cursor: nothing is pushed, so a slow or dead
//! reader costs the others nothing.

mod error;
mod pace;
mod progress;
mod ring;
mod waiters;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};

use common::revision::{Revision, Start, Token};
use common::time::Timestamp;
use proto::task::v1::closing::Reason;
use proto::task::v1::history_range::Problem;
use store::{Identity, Recorded, Store, StoreError};
use tokio::time::Instant;

pub use self::error::{OutOfRange, ReadError};
pub use self::progress::LatestProgress;
pub(crate) use self::ring::Found;
use self::ring::Ring;

/// The number of revisions that are read from the store at once.
const STORE_READ: usize = 16;
pub(crate) use self::waiters::{Place, Waiters};
use crate::metrics::Meters;

/// One committed revision.
#[derive(Debug)]
pub struct Entry<H> {
    /// The revision's number.
    pub revision: Revision,
    /// The start of the service that made it.
    pub start: Start,
    /// When it was committed.
    pub time: Timestamp,
    /// What it holds for watchers.
    pub history: H,
    /// Its encoded size, which bounds the memory.
    pub bytes: usize,
    /// When it became durable, if that is measured and it is still in memory.
    pub durable_at: Option<Instant>,
}

/// See the module.
pub struct Log<H> {
    store: Arc<dyn Store>,
    identity: Identity,
    ring: RwLock<Ring<H>>,
    closed: OnceLock<Reason>,
    waiters: Arc<Waiters>,
    progress: LatestProgress,
    meters: Arc<Meters>,
}

impl<H: prost::Message + Default> Log<H> {
    /// The log of a store, as far as it was committed.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn new(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        Self::measured(store, Meters::new(false))
    }

    /// As [`Log::new`], of a service that is measured by these.
    ///
    /// # Errors
    /// As [`Log::new`].
    pub fn measured(store: Arc<dyn Store>, meters: Arc<Meters>) -> Result<Arc<Self>, StoreError> {
        let current = store.reader()?.revision();
        meters.reached(current);
        Ok(Arc::new(Self {
            identity: store.identity(),
            store,
            ring: RwLock::new(Ring::starting_after(current)),
            closed: OnceLock::new(),
            waiters: Arc::default(),
            progress: LatestProgress::default(),
            meters,
        }))
    }

    /// Shows revisions that are durable to all who look from now on; those who wait are to be woken ([`Log::wake`]).
    /// Only the coordinator calls this.
    pub fn publish(&self, entries: Vec<Entry<H>>) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            ring.push(Arc::new(entry));
        }
        self.meters.reached(ring.current());
    }

    /// Wakes all who wait for revisions.
    pub fn wake(&self) {
        self.waiters.wake_all();
    }

    /// Shows that the history reaches up to `revision`, which the store holds and memory does not: the outcome
    /// of a commit that was thought to have failed. Only the coordinator calls this.
    pub(crate) fn advance(&self, revision: Revision) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if ring.current() < revision {
            *ring = Ring::starting_after(revision);
            drop(ring);
            self.meters.reached(revision);
            self.waiters.wake_all();
        }
    }

    /// The last revision that was published.
    pub fn current(&self) -> Revision {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).current()
    }

    /// The token of [`Log::current`].
    pub fn token(&self) -> Token {
        self.token_at(self.current(), self.identity.start)
    }

    /// The token of an entry: resuming after it goes on with the next.
    pub fn token_of(&self, entry: &Entry<H>) -> Token {
        self.token_at(entry.revision, entry.start)
    }

    pub(crate) fn token_at(&self, revision: Revision, start: Start) -> Token {
        Token {
            store_id: self.identity.store_id,
            start,
            revision,
        }
    }

    /// Whose history this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The revision after which a token resumes.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] for a point that is not, or no longer, in this history.
    pub fn resume(&self, token: &Token) -> Result<Revision, ReadError> {
        if token.store_id != self.identity.store_id {
            return Err(self.out_of_range(Problem::UnknownStore)?);
        }
        let Some(span) = self.store.span(token.start)? else {
            return Err(self.out_of_range(Problem::UnknownStart)?);
        };
        if token.revision > span.last {
            let present = token.start == self.identity.start;
            return Err(self.out_of_range(if present {
                Problem::Future
            } else {
                Problem::PastStart
            })?);
        }
        if token.revision < self.store.oldest()? {
            return Err(self.out_of_range(Problem::TooOld)?);
        }
        Ok(token.revision)
    }

    /// The revisions after `after`, in order, up to `limit` of them; none if there are none yet. Reads from the
    /// store, and may block on the disk, if memory does not reach back that far.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] if the first of them was trimmed.
    pub fn read_after(&self, after: Revision, limit: usize) -> Result<Vec<Arc<Entry<H>>>, ReadError> {
        self.read_chunk(after, limit, usize::MAX)
    }

    /// As [`Log::read_after`], and of no more than about `max_bytes`, as they are encoded, however large each is.
    ///
    /// # Errors
    /// As [`Log::read_after`].
    pub(crate) fn read_chunk(
        &self,
        after: Revision,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<Entry<H>>>, ReadError> {
        match self.read_ring(after, limit, max_bytes) {
            Found::Here(entries) => Ok(entries),
            Found::Nothing => Ok(Vec::new()),
            Found::Older => self.read_store(after, limit, max_bytes),
        }
    }

    pub(crate) fn read_ring(&self, after: Revision, limit: usize, max_bytes: usize) -> Found<H> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.read_after(after, limit, max_bytes)
    }

    fn read_store(
        &self,
        after: Revision,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<Entry<H>>>, ReadError> {
        let recorded = match self.recorded(after, limit, max_bytes) {
            Err(StoreError::Damaged(what)) => return Err(self.unreadable(&what)?),
            recorded => recorded?,
        };
        // A trim may come between any two reads, so the proof of a whole history is its first revision.
        if recorded.first().map(|first| first.revision) != Some(after.next()) {
            return Err(self.out_of_range(Problem::TooOld)?);
        }
        match recorded.into_iter().map(decode).collect() {
            Err(StoreError::Damaged(what)) => Err(self.unreadable(&what)?),
            entries => Ok(entries?),
        }
    }

    /// A store gives revisions by their number, whatever their size: it is asked for few at a time.
    fn recorded(&self, after: Revision, limit: usize, max_bytes: usize) -> Result<Vec<Recorded>, StoreError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut last = after;
        while found.len() < limit && bytes < max_bytes {
            let at_once = STORE_READ.min(limit - found.len());
            let more = self.store.history(last, at_once)?;
            let all = more.len() < at_once;
            bytes += more.iter().map(|one| one.history.len()).sum::<usize>();
            last = more.last().map_or(last, |one| one.revision);
            found.extend(more);
            if all {
                break;
            }
        }
        Ok(found)
    }

    /// Damaged revisions stay unreadable: a watch that reaches one starts with a snapshot, which needs no history,
    /// instead of failing again and again.
    pub(crate) fn unreadable(&self, what: &str) -> Result<ReadError, StoreError> {
        tracing::error!(
            what,
            "the history is damaged: watches that reach it are told to start with a snapshot"
        );
        self.out_of_range(Problem::Damaged)
    }

    /// Waits until there is a revision after `after`, or until the log is closed.
    pub async fn changed(&self, after: Revision) {
        let place = Waiters::place(&self.waiters);
        std::future::poll_fn(|context| self.poll_changed(after, &place, context)).await;
    }

    /// As [`Log::changed`], for a reader that has a place of its own to wait at.
    pub(crate) fn poll_changed(&self, after: Revision, place: &Place, context: &Context<'_>) -> Poll<()> {
        let changed = || self.closed.get().is_some() || self.current() > after;
        if changed() {
            return Poll::Ready(());
        }
        place.wait(context.waker());
        // What came before the waker was in place woke nobody.
        if changed() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// Ends all watches, those still to come included.
    pub fn close(&self, reason: Reason) {
        // The first reason stays.
        let _ = self.closed.set(reason);
        self.waiters.wake_all();
    }

    /// Why the log was closed, if it was.
    pub fn closed(&self) -> Option<Reason> {
        self.closed.get().copied()
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The progress of running tasks, which is never durable.
    pub fn progress(&self) -> &LatestProgress {
        &self.progress
    }

    /// What is counted of its service.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Describes what is wrong with a point, and what would be right.
    ///
    /// # Errors
    /// [`StoreError`] if the oldest point cannot be read.
    pub(crate) fn out_of_range(&self, problem: Problem) -> Result<ReadError, StoreError> {
        self.meters.point_refused(problem);
        let oldest = self.store.oldest()?;
        Ok(ReadError::OutOfRange(Box::new(OutOfRange {
            problem,
            oldest: self.token_at(oldest, self.identity.start),
            current: self.token(),
        })))
    }
}

fn decode<H: prost::Message + Default>(recorded: Recorded) -> Result<Arc<Entry<H>>, StoreError> {
    let history = H::decode(recorded.history.as_slice())
        .map_err(|error| StoreError::Damaged(format!("revision {}: {error}", recorded.revision.0)))?;
    Ok(Arc::new(Entry {
        revision: recorded.revision,
        start: recorded.start,
        time: recorded.time,
        history,
        bytes: recorded.history.len(),
        durable_at: None,
    }))
}

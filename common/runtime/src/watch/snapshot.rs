//! Reads a snapshot, page by page, all from one reader and so at one revision.
//!
//! An open reader holds back the reuse of old pages of the database, so it must not wait for a slow client for
//! long: what is read ahead of the client is bounded by [`AHEAD_BYTES`], which is the whole of most snapshots, and
//! the reader of a client that has not taken the rest within [`PATIENCE`] is dropped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::revision::Revision;
use store::{Reader, Store, StoreError};
use tokio::time::Instant;

use super::{Feed, pieces};

/// Items on a page of a snapshot.
const PAGE_ITEMS: usize = 256;

/// What one step reads at most, a page of the feed more: it is held in memory until the client takes it.
const AHEAD_BYTES: usize = 2 << 20;

/// Pages of the feed that one step reads at most, where its filter selects little: others have their turn between two steps.
const STEP_PAGES: usize = 4;

/// What an open picture is counted as: while it is open, the store keeps what was changed since.
const OPEN_BYTES: usize = 64 << 10;

/// How long a snapshot may stay open.
const PATIENCE: Duration = Duration::from_secs(60);

/// A snapshot that is not read to its end. None inside: it took too long.
pub(super) struct Snapshot(Arc<Mutex<Option<Open>>>);

struct Open {
    reader: Box<dyn Reader + Send>,
    next: Option<Vec<u8>>,
    until: Instant,
}

/// What a step has read.
pub(super) struct Step {
    pub(super) pages: Vec<Vec<Bytes>>,
    pub(super) revision: Revision,
    /// None if this was the last.
    pub(super) rest: Option<Snapshot>,
}

impl Step {
    /// What it takes in memory until it is sent, and the picture that is open for the rest.
    pub(super) fn held_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().map(Bytes::len).sum::<usize>();
        pages + self.rest.as_ref().map_or(0, |_| OPEN_BYTES)
    }
}

/// Why a snapshot ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the client did not read the snapshot within {PATIENCE:?}; read faster, or use a narrower filter"
    )]
    TooSlow,
}

/// Reads the first step of the last committed snapshot. Blocks on the disk; within a tokio runtime.
pub(super) fn first<F: Feed>(store: &dyn Store, feed: &F) -> Result<Step, SnapshotError> {
    let until = Instant::now() + PATIENCE;
    let open = Open {
        reader: store.reader()?,
        next: None,
        until,
    };
    let (mut step, rest) = read(open, feed)?;
    if let Some(rest) = rest {
        let rest = Arc::new(Mutex::new(Some(rest)));
        let held = Arc::downgrade(&rest);
        // The client may never ask for the rest, so somebody else must drop it. Only a snapshot of more than one
        // step has this task.
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            if let Some(rest) = held.upgrade() {
                drop(take(&rest));
            }
        });
        step.rest = Some(Snapshot(rest));
    }
    Ok(step)
}

impl Snapshot {
    /// Reads the next step. Blocks on the disk.
    pub(super) fn next<F: Feed>(self, feed: &F) -> Result<Step, SnapshotError> {
        let open = take(&self.0).ok_or(SnapshotError::TooSlow)?;
        let (mut step, rest) = read(open, feed)?;
        if let Some(rest) = rest {
            // Back to the place that is emptied when its time is over, unless it is over already.
            let in_time = Instant::now() < rest.until;
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = in_time.then_some(rest);
            step.rest = Some(self);
        }
        Ok(step)
    }
}

fn take(place: &Mutex<Option<Open>>) -> Option<Open> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn read<F: Feed>(mut open: Open, feed: &F) -> Result<(Step, Option<Open>), SnapshotError> {
    let mut items = Vec::new();
    let mut bytes = 0;
    for _ in 0..STEP_PAGES {
        let page = feed.snapshot(&*open.reader, open.next.as_deref())?;
        bytes += page.items.iter().map(Bytes::len).sum::<usize>();
        items.extend(page.items);
        open.next = page.next;
        if open.next.is_none() || bytes >= AHEAD_BYTES {
            break;
        }
    }
    let step = Step {
        pages: pieces::cut(items, PAGE_ITEMS),
        revision: open.reader.revision(),
        rest: None,
    };
    Ok((step, open.next.is_some().then_some(open)))
}

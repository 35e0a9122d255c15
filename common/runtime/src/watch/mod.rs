//! The one watch server: turns the log into resumable response streams, for every Watch RPC of both services.

mod options;
mod pieces;
mod snapshot;
mod stream;

use std::sync::Arc;

use bytes::Bytes;
use common::id::TaskId;
use proto::encode;
use store::{Reader, StoreError};
use tonic::Status;

pub use self::options::{MAX_AGE, Start, Terms, WatchOptions};
pub use self::stream::WatchStream;
use crate::log::{Entry, Log};

/// What one Watch RPC shows, through one client's filter. Items are encoded ones: whoever makes a revision encodes
/// what it shows once, and every watcher is sent the same bytes.
pub trait Feed: Send + Sync + 'static {
    /// The service's history.
    type History: prost::Message + Default + Send + Sync + 'static;

    /// The items of a revision that the filter selects, in order.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one cannot be read: a watch with a hole would lie.
    fn changes(&self, entry: &Entry<Self::History>) -> Result<Vec<Bytes>, StoreError>;

    /// A page of the snapshot: all unfinished items that the filter selects, and those ended within the asked
    /// time. `after` is the last page's `next`.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError>;

    /// Memory that the filter takes, and what is remembered of it, for as long as the watch lives.
    fn held_bytes(&self) -> usize;

    /// Whether the filter selects this task, for progress samples.
    fn selects(&self, task_id: TaskId) -> bool;
}

/// A page of a snapshot.
#[derive(Debug)]
pub struct Page<I = Bytes> {
    /// What the filter selects of the records looked at.
    pub items: Vec<I>,
    /// Where the next page goes on; none on the last one.
    pub next: Option<Vec<u8>>,
}

impl Page {
    /// Of items that are not encoded yet.
    pub fn of<M: prost::Message>(items: impl IntoIterator<Item = M>, next: Option<Vec<u8>>) -> Self {
        Self {
            items: items.into_iter().map(|item| encode::once(&item)).collect(),
            next,
        }
    }
}

/// Those of the encoded items that `selects` wants; none is looked at where a filter wants them all.
///
/// # Errors
/// [`StoreError::Damaged`] if one that is looked at cannot be read.
pub fn selected<T: prost::Message + Default>(
    items: &[Bytes],
    all: bool,
    selects: impl Fn(&T) -> bool,
) -> Result<Vec<Bytes>, StoreError> {
    if all {
        return Ok(items.to_vec());
    }
    let mut found = Vec::new();
    for item in items {
        if selects(&read(item)?) {
            found.push(item.clone());
        }
    }
    Ok(found)
}

/// An item of the history.
///
/// # Errors
/// [`StoreError::Damaged`] if it is none of this kind.
pub fn read<T: prost::Message + Default>(item: &Bytes) -> Result<T, StoreError> {
    T::decode(item.clone()).map_err(|error| StoreError::Damaged(format!("an item of the history: {error}")))
}

/// Starts a watch.
///
/// # Errors
/// `OUT_OF_RANGE` for a point that the history does not have; `UNAVAILABLE` if the service stops.
#[allow(clippy::result_large_err)] // The handlers answer with it as it is.
pub fn watch<F: Feed>(
    log: Arc<Log<F::History>>,
    feed: F,
    options: WatchOptions,
) -> Result<WatchStream<F>, Status> {
    WatchStream::start(log, feed, options)
}

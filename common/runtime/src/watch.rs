//! The one watch server: turns the log into resumable response streams, for every Watch RPC of both services.

mod options;
mod pieces;
mod snapshot;
mod stream;

use std::sync::Arc;

use common::id::TaskId;
use common::revision::{Revision, Token};
use common::time::Timestamp;
use proto::task::v1 as wire;
use tonic::Status;

pub use self::options::{MAX_AGE, Start, Terms, WatchOptions};
pub use self::stream::WatchStream;
use crate::log::{Entry, Log};
use crate::store::{Reader, StoreError};

/// What one Watch RPC shows, through one client's filter.
pub trait Feed: Send + Sync + 'static {
    /// The service's history.
    type History: prost::Message + Default + Send + Sync + 'static;
    /// What it shows of it.
    type Item: prost::Message + Clone + Send + Sync + 'static;
    /// The RPC's frame.
    type Response: Send + 'static;

    /// The items of a revision that the filter selects, in order.
    fn changes(&self, entry: &Entry<Self::History>) -> Vec<Self::Item>;

    /// A page of the snapshot: all unfinished items that the filter selects, and those ended within the asked
    /// time. `after` is the last page's `next`.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page<Self::Item>, StoreError>;

    /// Whether the filter selects this task, for progress samples.
    fn selects(&self, task_id: TaskId) -> bool;

    /// The RPC's frame.
    fn response(frame: Frame<Self::Item>) -> Self::Response;
}

/// A page of a snapshot.
#[derive(Debug)]
pub struct Page<I> {
    /// What the filter selects of the records looked at.
    pub items: Vec<I>,
    /// Where the next page goes on; none on the last one.
    pub next: Option<Vec<u8>>,
}

/// A frame of a watch, before it becomes an RPC's own.
#[derive(Debug, Clone)]
pub enum Frame<I> {
    /// Always first.
    Opened(wire::Opened),
    /// A page of the snapshot.
    Snapshot(Vec<I>),
    /// The snapshot is complete.
    SnapshotDone(wire::SnapshotDone),
    /// A revision, or a piece of one.
    Changes {
        /// Which.
        revision: Revision,
        /// None while `more`.
        token: Option<Token>,
        /// When it was committed.
        time: Timestamp,
        /// What the filter selects of it.
        items: Vec<I>,
        /// More of this revision follows.
        more: bool,
    },
    /// The newest samples.
    Progress(wire::ProgressSamples),
    /// Nothing up to this point is missing.
    Heartbeat(wire::Heartbeat),
    /// Always last, where the server ends the stream on purpose.
    Closing(wire::Closing),
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

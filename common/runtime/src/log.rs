//! What was committed, in order: the newest revisions in memory, the rest in the store.

use common::revision::{Revision, Start};
use common::time::Timestamp;

/// One committed revision.
#[derive(Debug)]
pub struct Entry<H> {
    /// Which.
    pub revision: Revision,
    /// The start of the service that made it.
    pub start: Start,
    /// When it was committed.
    pub time: Timestamp,
    /// What it holds for watchers.
    pub history: H,
}

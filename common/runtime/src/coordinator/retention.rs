//! How much of the history is kept.

use std::time::Duration;

use common::revision::Revision;
use store::{Store, StoreError};

use crate::ages::Ages;

/// The number of revisions that are judged together by age: all of them must be too old.
const PIECE: u64 = 1_000;

/// A revision is forgotten when it is older than `max_age`, or when there are more than `max_revisions` after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Kept at least this long, unless there are too many.
    pub max_age: Duration,
    /// The maximum number that is kept, plus a few more while they are being trimmed.
    pub max_revisions: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            max_revisions: 1_000_000,
        }
    }
}

impl Retention {
    /// Trims one bounded piece, if there is one; returns whether there may be more.
    pub(super) fn trim(&self, store: &dyn Store, current: Revision, ages: &Ages) -> Result<bool, StoreError> {
        let oldest = store.oldest()?;
        let by_count = Revision(current.0.saturating_sub(self.max_revisions));
        if by_count > oldest {
            return store.trim(by_count);
        }
        // A missing revision is one that is still to come.
        let last = store.history(Revision(oldest.0 + PIECE - 1), 1)?;
        match last.first() {
            Some(last) if ages.present().is_older(last.time, self.max_age) => {
                store.trim(last.revision)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

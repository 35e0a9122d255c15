//! The starts of a service, in order.

use common::revision::{Revision, Start};

use crate::StartSpan;

/// Each start of a service with the revision that it began after, oldest first: for whoever implements a [`Store`](crate::Store).
#[derive(Debug, Clone, Default)]
pub struct Starts(Vec<(Start, Revision)>);

impl Starts {
    /// How many there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a start that begins after this revision.
    pub fn push(&mut self, start: Start, after: Revision) {
        self.0.push((start, after));
    }

    /// What a start made, where the history now ends at `current`.
    pub fn find(&self, start: Start, current: Revision) -> Option<StartSpan> {
        // From the back: most tokens are of the present start.
        let at = self.0.iter().rposition(|(known, _)| *known == start)?;
        Some(StartSpan {
            after: self.0[at].1,
            last: self.0.get(at + 1).map_or(current, |next| next.1),
        })
    }
}

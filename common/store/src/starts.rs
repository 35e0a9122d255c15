//! The starts of a service, in order.

use common::revision::{Revision, Start};

use super::StartSpan;

/// Each start with the revision that it began after, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts(Vec<(Start, Revision)>);

impl Starts {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, start: Start, after: Revision) {
        self.0.push((start, after));
    }

    /// What a start made, where the history now ends at `current`.
    pub(super) fn find(&self, start: Start, current: Revision) -> Option<StartSpan> {
        // From the back: most tokens are of the present start.
        let at = self.0.iter().rposition(|(known, _)| *known == start)?;
        Some(StartSpan {
            after: self.0[at].1,
            last: self.0.get(at + 1).map_or(current, |next| next.1),
        })
    }
}

//! How long requests took until somebody who watches saw what came of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::disk::in_micros;

/// Requests under way, and the times of those that were seen.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sent: HashMap<String, Instant>,
    micros: Vec<f64>,
}

impl Sightings {
    /// A request is sent now.
    pub(crate) fn sent(&self, key: &str) {
        self.lock().sent.insert(key.to_owned(), Instant::now());
    }

    /// Somebody sees it. Only the first time counts.
    pub(crate) fn seen(&self, key: &str) {
        let mut inner = self.lock();
        if let Some(sent) = inner.sent.remove(key) {
            inner.micros.push(in_micros(sent.elapsed()));
        }
    }

    /// The times so far, which are forgotten.
    pub(crate) fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.lock().micros)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_once_and_a_stranger_never() {
        let sightings = Sightings::default();
        sightings.sent("a");
        sightings.seen("b");
        assert!(sightings.take().is_empty());
        sightings.seen("a");
        sightings.seen("a");
        assert_eq!(sightings.take().len(), 1);
    }
}

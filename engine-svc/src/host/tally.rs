//! Counters of connections to hosts since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters, which the metrics read.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    connects: AtomicU64,
    failures: AtomicU64,
    resyncs: AtomicU64,
    retries: AtomicU64,
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    pub(super) fn connected(&self) {
        one_more(&self.connects);
    }

    pub(super) fn failed(&self) {
        one_more(&self.failures);
    }

    pub(super) fn begins_anew(&self) {
        one_more(&self.resyncs);
    }

    pub(super) fn asks_again(&self) {
        one_more(&self.retries);
    }

    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn resyncs(&self) -> u64 {
        self.resyncs.load(Ordering::Relaxed)
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

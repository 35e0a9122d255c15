//! Entries that wait to be written: bounded, so that no call waits for the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Entry;

/// The maximum number of waiting entries: a second of the fastest service. Each is some hundred bytes, and 4 kB at
/// most.
const MAX_WAITING: usize = 8_192;

/// The maximum number of entries that are written at once.
const MAX_TAKEN: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    waiting: Mutex<Waiting>,
    /// Signals that there is something to write, or that the sink is closed.
    changed: Condvar,
    /// Entries that are not in the file, since the start.
    pub(crate) lost: AtomicU64,
    /// Refusals that were only counted, since the start.
    pub(crate) left_out: AtomicU64,
    /// Entries in the file, since the start.
    pub(crate) kept: AtomicU64,
    /// Whether the file cannot be written at present.
    pub(crate) is_failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// Entries that the writer has taken and not written yet.
    in_hand: usize,
    lost: u64,
    left_out: u64,
    is_closed: bool,
}

/// What the writer takes at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In order.
    pub(super) entries: Vec<Entry>,
    /// Entries that found no room since the last batch.
    pub(super) lost: u64,
    /// Refusals that were only counted since the last batch.
    pub(super) left_out: u64,
}

impl Batch {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lost == 0 && self.left_out == 0
    }
}

impl Sink {
    pub(super) fn push(&self, entry: Entry) {
        let mut waiting = self.lock();
        if waiting.is_closed {
            drop(waiting);
            self.lost.fetch_add(1, Ordering::Relaxed);
            // A call that was cut off at the end of the service. Their number is that of the calls under way.
            tracing::error!(
                rpc = %entry.rpc, user = %entry.user, outcome = entry.outcome.as_str(),
                "an entry came after the audit log was closed: it is only here"
            );
            return;
        }
        if waiting.entries.len() >= MAX_WAITING {
            waiting.lost += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.entries.push_back(entry);
        if waiting.entries.len() == 1 {
            self.changed.notify_one();
        }
    }

    pub(super) fn leave_out(&self) {
        self.lock().left_out += 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// The next batch, as soon as there are entries or `patience` is over, and whether nothing follows the batch.
    pub(super) fn wait(&self, patience: Duration) -> (Batch, bool) {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |waiting| {
            waiting.entries.is_empty() && !waiting.is_closed
        });
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entries.len().min(MAX_TAKEN);
        waiting.in_hand = count;
        let batch = Batch {
            entries: waiting.entries.drain(..count).collect(),
            lost: std::mem::take(&mut waiting.lost),
            left_out: std::mem::take(&mut waiting.left_out),
        };
        (batch, waiting.is_closed && waiting.entries.is_empty())
    }

    /// The batch that was taken last is in the file.
    pub(super) fn is_written(&self) {
        let entries = std::mem::take(&mut self.lock().in_hand);
        self.kept.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Waits for this long, or until the sink is closed; whether it is closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), pause, |waiting| !waiting.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// Nothing more is taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Gives up what is not written; how many entries that are.
    pub(super) fn give_up(&self) -> u64 {
        let mut waiting = self.lock();
        let lost = (waiting.entries.len() + std::mem::take(&mut waiting.in_hand)) as u64;
        waiting.entries.clear();
        self.lost.fetch_add(lost, Ordering::Relaxed);
        lost
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What waits to be written to the log: bounded in lines and in bytes, so that whoever logs never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines that may wait: some seconds of a busy service, so that a reader that pauses loses nothing.
const MAX_LINES: usize = 10_000;

/// Bytes that may wait: a line may hold a fault of some hundred kilobytes.
const MAX_BYTES: usize = 4 << 20;

/// What comes next for the one who writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A line, with its end.
    Line(Vec<u8>),
    /// In this place so many lines were dropped.
    Gap(u64),
}

/// The queue. Cheap to clone; all clones are one queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is an entry.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    /// Lines that were dropped since the start.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// A gap is followed by a line, if by anything: there is at most one gap more than there are lines.
    entries: VecDeque<Entry>,
    lines: usize,
    bytes: usize,
    /// An entry was taken and is not written yet.
    writing: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self::bounded(MAX_LINES, MAX_BYTES)
    }
}

impl Queue {
    pub(super) fn bounded(max_lines: usize, max_bytes: usize) -> Self {
        Self {
            shared: Arc::default(),
            max_lines,
            max_bytes,
        }
    }

    /// Adds a line, or counts it where there is no room.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut waiting = self.waiting();
        if waiting.lines < self.max_lines && waiting.bytes.saturating_add(line.len()) <= self.max_bytes {
            waiting.lines += 1;
            waiting.bytes += line.len();
            waiting.entries.push_back(Entry::Line(line));
        } else {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            match waiting.entries.back_mut() {
                Some(Entry::Gap(dropped)) => *dropped = dropped.saturating_add(1),
                _ => waiting.entries.push_back(Entry::Gap(1)),
            }
        }
        drop(waiting);
        self.shared.filled.notify_one();
    }

    /// How many lines were dropped since the start.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// The next entry, once there is one. Whatever was taken before counts as written.
    pub(super) fn take(&self) -> Entry {
        let mut waiting = self.waiting();
        loop {
            waiting.writing = false;
            if let Some(entry) = waiting.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    waiting.lines -= 1;
                    waiting.bytes -= line.len();
                }
                waiting.writing = true;
                return entry;
            }
            self.shared.emptied.notify_all();
            let woken = self.shared.filled.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, for `patience` at most; says whether it is.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut waiting = self.waiting();
        while waiting.writing || !waiting.entries.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.shared.emptied.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Entry {
        Entry::Line(text.as_bytes().to_vec())
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_would_have_been() {
        let queue = Queue::bounded(2, 100);
        for text in ["a", "b", "c", "d"] {
            queue.push(text.into());
        }
        assert_eq!(queue.take(), line("a"));
        queue.push("e".into());
        queue.push("f".into());
        let rest: Vec<Entry> = (0..4).map(|_| queue.take()).collect();
        assert_eq!(rest, [line("b"), Entry::Gap(2), line("e"), Entry::Gap(1)]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = Queue::bounded(100, 10);
        queue.push(vec![b'x'; 11]);
        queue.push(vec![b'y'; 10]);
        queue.push(vec![b'z'; 1]);
        assert_eq!(queue.take(), Entry::Gap(1));
        assert_eq!(queue.take(), Entry::Line(vec![b'y'; 10]));
        assert_eq!(queue.take(), Entry::Gap(1));
    }

    #[test]
    fn an_end_waits_for_what_is_queued_and_not_for_ever() {
        let queue = Queue::default();
        assert!(queue.flush(Duration::ZERO), "nothing is queued");
        queue.push("a".into());
        assert!(!queue.flush(Duration::ZERO), "nobody writes");
        assert_eq!(queue.take(), line("a"));
        assert!(!queue.flush(Duration::ZERO), "it is being written");
        let writer = queue.clone();
        // Ends with the process: it waits for the next line.
        std::thread::spawn(move || writer.take());
        assert!(queue.flush(Duration::from_secs(60)));
    }
}

//! The newest revisions, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use common::revision::Revision;

use super::Entry;

/// Readers that are further behind read from the store.
const MAX_ENTRIES: usize = 32_768;

/// What the entries may take, measured by their encoded size; as they lie in memory, ready for every watcher, they are
/// some six times as large. A quarter of a second of the highest rate: more only makes a busy service touch memory that
/// nobody reads.
const MAX_BYTES: usize = 4 << 20;

/// Dense revisions up to and including `current`.
pub(super) struct Ring<H> {
    entries: VecDeque<Arc<Entry<H>>>,
    bytes: usize,
    current: Revision,
}

/// What memory knows of the revisions after a point.
pub(crate) enum Found<H> {
    /// The next ones.
    Here(Vec<Arc<Entry<H>>>),
    /// There are none yet.
    Nothing,
    /// There are, but only the store has them.
    Older,
}

impl<H> Ring<H> {
    pub(super) fn starting_after(current: Revision) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            current,
        }
    }

    pub(super) fn current(&self) -> Revision {
        self.current
    }

    pub(super) fn push(&mut self, entry: Arc<Entry<H>>) {
        if entry.revision != self.current.next() {
            // Never a hole in memory: the store has what is missing.
            self.entries.clear();
            self.bytes = 0;
        }
        self.current = entry.revision;
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
        while self.entries.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry.bytes;
            }
        }
    }

    /// Up to `limit` of them, and no more than `max_bytes` where that is not the first alone.
    pub(super) fn read_after(&self, after: Revision, limit: usize, max_bytes: usize) -> Found<H> {
        if after >= self.current {
            return Found::Nothing;
        }
        let first = self.entries.front().map(|entry| entry.revision);
        let Some(from) = first.and_then(|first| (after.0 + 1).checked_sub(first.0)) else {
            return Found::Older;
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let entries = self.entries.iter().skip(from).take(limit).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += entry.bytes.max(1);
            is_first || bytes <= max_bytes
        });
        Found::Here(entries.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use common::revision::Start;
    use common::time::Timestamp;

    use super::*;

    fn entry(revision: u64, bytes: usize) -> Arc<Entry<()>> {
        Arc::new(Entry {
            revision: Revision(revision),
            start: Start(1),
            time: Timestamp(0),
            history: (),
            bytes,
            durable_at: None,
        })
    }

    fn read(ring: &Ring<()>, after: u64) -> Option<Vec<u64>> {
        match ring.read_after(Revision(after), 3, usize::MAX) {
            Found::Here(entries) => Some(entries.iter().map(|entry| entry.revision.0).collect()),
            Found::Nothing => Some(Vec::new()),
            Found::Older => None,
        }
    }

    #[test]
    fn memory_is_bounded_and_never_has_a_hole() {
        let mut ring = Ring::starting_after(Revision(10));
        assert_eq!(read(&ring, 10), Some(vec![]));
        assert_eq!(read(&ring, 9), None);
        for revision in 11..=15 {
            ring.push(entry(revision, MAX_BYTES / 4));
        }
        assert_eq!(read(&ring, 10), None, "11 was pushed out");
        assert_eq!(read(&ring, 11), Some(vec![12, 13, 14]));
        assert_eq!(read(&ring, 14), Some(vec![15]));
        ring.push(entry(18, 1));
        assert_eq!(read(&ring, 15), None);
        assert_eq!(read(&ring, 17), Some(vec![18]));
        ring.push(entry(19, MAX_BYTES * 2));
        assert_eq!(read(&ring, 18), Some(vec![19]), "the newest stays, however large");
        ring.push(entry(20, 10));
        ring.push(entry(21, 10));
        ring.push(entry(22, 10));
        for (max_bytes, expected) in [(0, 1), (10, 1), (19, 1), (20, 2), (30, 3)] {
            let Found::Here(found) = ring.read_after(Revision(19), 9, max_bytes) else {
                panic!("they are here")
            };
            assert_eq!(found.len(), expected, "{max_bytes}");
        }
    }
}

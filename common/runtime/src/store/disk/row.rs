//! How the history lies in its table: a run of revisions of one start to a row, whose key is the last of them.
//!
//! A row is the start, 8 bytes, how many revisions there are, 4 bytes, and how many bytes they have, 4 bytes; then, as a
//! block of LZ4, of each revision its time, 8 bytes, the length of its history, 4 bytes, and that; and last a CRC-32 of the
//! key and of all before it. All numbers are big-endian.
//!
//! Revisions of one run say the same things again and again (ids as text, descriptions, one state after the other): a row
//! is a fifth of what it holds, and LZ4 costs less than the pages that it saves.

use common::revision::{Revision, Start};
use common::time::Timestamp;

use super::{Commit, Recorded, StoreError};

/// Revisions in a row: putting a row costs more than its bytes, and reading one revision reads all of its row.
const MAX_REVISIONS: u32 = 64;

/// Bytes from which on a row takes no further revision: with some pages' worth the cost of a row is spread already.
const ENOUGH_BYTES: usize = 16 << 10;

/// Bytes of the start, which are the first ones of a row.
const START: usize = size_of::<u64>();

/// Bytes before the first revision.
const HEAD: usize = START + 2 * size_of::<u32>();

/// A row in the making.
#[derive(Debug, Default)]
pub(super) struct Row {
    bytes: Vec<u8>,
    revisions: u32,
    last: Revision,
}

impl Row {
    /// An empty row, for revisions of `start`.
    pub(super) fn of(start: Start) -> Self {
        Self {
            bytes: [start.0.to_be_bytes().as_slice(), &[0; HEAD - START]].concat(),
            ..Self::default()
        }
    }

    /// Adds the revision that follows.
    pub(super) fn push(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let length = u32::try_from(commit.history.len()).map_err(|_| {
            let what = format!("revision {} shows too much to be recorded", commit.revision.0);
            StoreError::Unavailable(what)
        })?;
        self.bytes.extend_from_slice(&commit.time.0.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(&commit.history);
        self.revisions += 1;
        self.last = commit.revision;
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.revisions >= MAX_REVISIONS || self.bytes.len() >= ENOUGH_BYTES
    }

    /// Has its key and its value put, unless it is empty. If that succeeds it is empty again.
    pub(super) fn take(
        &mut self,
        put: impl FnOnce(u64, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.revisions > 0 {
            let (head, revisions) = self.bytes.split_at(HEAD);
            let length = u32::try_from(revisions.len()).map_err(|_| {
                let what = format!("the history up to revision {} is too long for a row", self.last.0);
                StoreError::Unavailable(what)
            })?;
            let mut row = head[..START].to_vec();
            row.extend_from_slice(&self.revisions.to_be_bytes());
            row.extend_from_slice(&length.to_be_bytes());
            row.extend_from_slice(&lz4_flex::block::compress(revisions));
            let sum = sum(self.last, &row);
            row.extend_from_slice(&sum.to_be_bytes());
            put(self.last.0, &row)?;
        }
        self.bytes.truncate(HEAD);
        self.revisions = 0;
        Ok(())
    }
}

/// The revisions of a row, in order.
///
/// # Errors
/// [`StoreError::Damaged`] if it is not what was written.
pub(super) fn revisions(last: Revision, row: &[u8]) -> Result<Vec<Recorded>, StoreError> {
    let damaged = || {
        StoreError::Damaged(format!(
            "the history up to revision {} is not what was written",
            last.0
        ))
    };
    let (row, found) = row.split_last_chunk().ok_or_else(damaged)?;
    if sum(last, row) != u32::from_be_bytes(*found) {
        return Err(damaged());
    }
    let (start, rest) = row.split_first_chunk().ok_or_else(damaged)?;
    let (count, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let (length, packed) = rest.split_first_chunk().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| damaged())?;
    // The sum is right: the length is what was written.
    let unpacked = lz4_flex::block::decompress(packed, length).map_err(|_| damaged())?;
    let mut rest = unpacked.as_slice();
    let start = Start(u64::from_be_bytes(*start));
    let count = u64::from(u32::from_be_bytes(*count));
    let before = last.0.checked_sub(count).ok_or_else(damaged)?;
    let mut found = Vec::new();
    for number in before + 1..=last.0 {
        let (time, after) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (length, after) = after.split_first_chunk().ok_or_else(damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| damaged())?;
        let (history, after) = after.split_at_checked(length).ok_or_else(damaged)?;
        found.push(Recorded {
            revision: Revision(number),
            start,
            time: Timestamp(i64::from_be_bytes(*time)),
            history: history.to_vec(),
        });
        rest = after;
    }
    match rest.is_empty() {
        true => Ok(found),
        false => Err(damaged()),
    }
}

fn sum(last: Revision, row: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&last.0.to_be_bytes());
    hasher.update(row);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn commit(revision: u64, history: Vec<u8>) -> Commit {
        Commit {
            revision: Revision(revision),
            time: Timestamp(-(i64::try_from(revision).unwrap())),
            history,
            writes: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn rows_read_back_as_what_was_put_into_them(
            sizes in proptest::collection::vec(0..20_000usize, 0..200),
        ) {
            let mut rows = Vec::new();
            let mut row = Row::of(Start(9));
            let mut put = |last, value: &[u8]| {
                rows.push((last, value.to_vec()));
                Ok(())
            };
            let commits: Vec<_> = sizes.iter().zip(5..).map(|(size, n)| commit(n, vec![7; *size])).collect();
            for commit in &commits {
                row.push(commit).unwrap();
                if row.is_full() {
                    row.take(&mut put).unwrap();
                }
            }
            row.take(&mut put).unwrap();
            row.take(&mut put).unwrap();
            let mut read = Vec::new();
            for (last, value) in rows {
                let revisions = revisions(Revision(last), &value).unwrap();
                prop_assert!(!revisions.is_empty() && revisions.len() <= 64);
                read.extend(revisions);
            }
            prop_assert_eq!(read.len(), commits.len());
            for (read, commit) in read.iter().zip(&commits) {
                prop_assert_eq!((read.revision, read.time, &read.history), (commit.revision, commit.time, &commit.history));
                prop_assert_eq!(read.start, Start(9));
            }
        }
    }

    #[test]
    fn a_row_that_is_cut_or_names_another_number_is_damaged() {
        let mut row = Row::of(Start(9));
        for n in 1..=3 {
            row.push(&commit(n, vec![7; 5])).unwrap();
        }
        row.take(|last, bytes| {
            assert!(revisions(Revision(last), bytes).is_ok());
            for cut in 0..bytes.len() {
                let read = revisions(Revision(last), &bytes[..cut]);
                assert!(
                    matches!(read, Err(StoreError::Damaged(_))),
                    "cut at {cut}: {read:?}"
                );
            }
            let mut fewer = bytes.to_vec();
            fewer[START..START + 4].copy_from_slice(&2_u32.to_be_bytes());
            let read = revisions(Revision(last), &fewer);
            assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
            let read = revisions(Revision(last - 1), bytes);
            assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
            Ok(())
        })
        .unwrap();
    }
}

//! How the history lies in its table: a run of revisions of one start to a row, whose key is the last of them. The crate's text has the bytes.
//!
//! Revisions of one run say the same things again and again (ids as text, descriptions, one state after the other): a row
//! is an eighth of what it holds, and compressing it costs less than the pages that it saves.

use common::revision::{Revision, Start};
use common::time::Timestamp;

use super::dictionary::{Dictionaries, DictionaryId, LoadedDictionary};
use super::record::DictionaryRef;
use crate::disk::compression::{self, Compressor};
use crate::{Commit, Recorded, StoreError};

/// Revisions in a row: putting a row costs more than its bytes, and reading one revision reads all of its row.
const MAX_REVISIONS: u32 = 64;

/// Bytes from which on a row takes no further revision. A command of many parts shows them in one revision after the other, each of
/// 50 kB, and the later ones repeat what the first ones say.
const ENOUGH_BYTES: usize = 128 << 10;

/// In the count of revisions: they are in zstd.
const ZSTD: u32 = 1 << 31;

/// In the count of revisions: they are compressed against a dictionary.
const WITH_DICTIONARY: u32 = 1 << 30;

/// Bytes of the start, which are the first ones of a row.
const START: usize = size_of::<u64>();

/// Bytes before the first revision.
const HEAD: usize = START + 2 * size_of::<u32>();

/// A row in the making.
#[derive(Debug)]
pub(super) struct Row {
    compressor: Compressor,
    bytes: Vec<u8>,
    revisions: u32,
    last: Revision,
    family: Option<DictionaryId>,
}

impl Row {
    /// An empty row, for revisions of `start`.
    pub(super) fn of(start: Start) -> Result<Self, StoreError> {
        Ok(Self {
            compressor: Compressor::new()?,
            bytes: [start.0.to_be_bytes().as_slice(), &[0; HEAD - START]].concat(),
            revisions: 0,
            last: Revision::default(),
            family: None,
        })
    }

    /// Adds the revision that follows. The first that is of a family with a dictionary tells what the row is compressed against.
    pub(super) fn push(
        &mut self,
        commit: &Commit,
        family: impl FnOnce() -> Result<Option<DictionaryId>, StoreError>,
    ) -> Result<(), StoreError> {
        if self.family.is_none() {
            self.family = family()?;
        }
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

    /// The family that it is to be compressed against.
    pub(super) const fn family(&self) -> Option<DictionaryId> {
        self.family
    }

    /// Its key and its value, unless it is empty, and it is empty again.
    pub(super) fn take(
        &mut self,
        dictionary: Option<DictionaryRef<'_>>,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let taken = (self.revisions > 0)
            .then(|| self.compressed(dictionary))
            .transpose()?;
        self.bytes.truncate(HEAD);
        self.revisions = 0;
        self.family = None;
        Ok(taken)
    }

    fn compressed(&mut self, dictionary: Option<DictionaryRef<'_>>) -> Result<(u64, Vec<u8>), StoreError> {
        let (head, revisions) = self.bytes.split_at(HEAD);
        let length = u32::try_from(revisions.len()).map_err(|_| {
            let what = format!("the history up to revision {} is too long for a row", self.last.0);
            StoreError::Unavailable(what)
        })?;
        let how = if dictionary.is_some() {
            ZSTD | WITH_DICTIONARY
        } else {
            ZSTD
        };
        let mut row = head[..START].to_vec();
        row.extend_from_slice(&(self.revisions | how).to_be_bytes());
        row.extend_from_slice(&length.to_be_bytes());
        let dictionary_checksum = dictionary.as_ref().map(|dictionary| dictionary.checksum);
        match dictionary {
            Some(dictionary) => {
                row.extend_from_slice(&dictionary.id);
                row.extend_from_slice(&dictionary.compressor.compress(revisions)?);
            }
            None => row.extend_from_slice(&self.compressor.compress(revisions)?),
        }
        let checksum = checksum(self.last, &row, dictionary_checksum);
        row.extend_from_slice(&checksum.to_be_bytes());
        Ok((self.last.0, row))
    }
}

/// The dictionary that a row is compressed against.
pub(super) fn dictionary_of(row: &[u8]) -> Option<DictionaryId> {
    Some(Parts::of(row)?.dictionary?).copied()
}

/// A row, taken apart; believed once the checksum is right.
struct Parts<'a> {
    start: Start,
    count: u64,
    is_zstd: bool,
    dictionary: Option<&'a DictionaryId>,
    length: usize,
    compressed: &'a [u8],
    /// What counts in the checksum, and that.
    summed: &'a [u8],
    checksum: u32,
}

impl<'a> Parts<'a> {
    fn of(row: &'a [u8]) -> Option<Self> {
        let (summed, sum) = row.split_last_chunk()?;
        let (start, rest) = summed.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let count = u32::from_be_bytes(*count);
        let (dictionary, compressed) = match count & WITH_DICTIONARY {
            0 => (None, rest),
            _ => rest
                .split_first_chunk()
                .map(|(id, compressed)| (Some(id), compressed))?,
        };
        Some(Self {
            start: Start(u64::from_be_bytes(*start)),
            count: u64::from(count & !(ZSTD | WITH_DICTIONARY)),
            is_zstd: count & ZSTD != 0,
            dictionary,
            length: usize::try_from(u32::from_be_bytes(*length)).ok()?,
            compressed,
            summed,
            checksum: u32::from_be_bytes(*sum),
        })
    }

    /// None unless the checksum is right: the length is what was written then.
    fn decompress(&self, last: Revision, dictionary: Option<&mut LoadedDictionary>) -> Option<Vec<u8>> {
        if checksum(
            last,
            self.summed,
            dictionary.as_ref().map(|dictionary| dictionary.checksum),
        ) != self.checksum
        {
            return None;
        }
        match dictionary {
            Some(dictionary) => dictionary.decompressor.decompress(self.compressed, self.length),
            None if self.is_zstd => compression::decompress(self.compressed, self.length),
            None => lz4_flex::block::decompress(self.compressed, self.length).ok(),
        }
    }
}

/// The revisions of a row, in order.
///
/// # Errors
/// [`StoreError::Damaged`] if it is not what was written.
pub(super) fn revisions(
    last: Revision,
    row: &[u8],
    dictionaries: &Dictionaries,
) -> Result<Vec<Recorded>, StoreError> {
    let damaged = || {
        StoreError::Damaged(format!(
            "the history up to revision {} is not what was written",
            last.0
        ))
    };
    let parts = Parts::of(row).ok_or_else(damaged)?;
    let decompressed = match parts.dictionary {
        Some(id) => match dictionaries.with(id, |dictionary| parts.decompress(last, Some(dictionary))) {
            Err(StoreError::Damaged(_)) => None,
            decompressed => decompressed?,
        },
        None => parts.decompress(last, None),
    };
    let decompressed = decompressed.ok_or_else(damaged)?;
    let mut rest = decompressed.as_slice();
    let (start, count) = (parts.start, parts.count);
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

fn checksum(last: Revision, row: &[u8], dictionary_checksum: Option<u32>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&last.0.to_be_bytes());
    hasher.update(row);
    if let Some(checksum) = dictionary_checksum {
        hasher.update(&checksum.to_be_bytes());
    }
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
            let mut row = Row::of(Start(9)).unwrap();
            let commits: Vec<_> = sizes.iter().zip(5..).map(|(size, n)| commit(n, vec![7; *size])).collect();
            for commit in &commits {
                row.push(commit, || Ok(None)).unwrap();
                if row.is_full() {
                    rows.extend(row.take(None).unwrap());
                }
            }
            rows.extend(row.take(None).unwrap());
            prop_assert!(row.take(None).unwrap().is_none());
            let dictionaries = Dictionaries::of(None);
            let mut read = Vec::new();
            for (last, value) in rows {
                let revisions = revisions(Revision(last), &value, &dictionaries).unwrap();
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
        let mut row = Row::of(Start(9)).unwrap();
        for n in 1..=3 {
            row.push(&commit(n, vec![7; 5]), || Ok(None)).unwrap();
        }
        let (last, bytes) = row.take(None).unwrap().unwrap();
        let revisions = |last, bytes: &[u8]| revisions(Revision(last), bytes, &Dictionaries::of(None));
        assert!(revisions(last, &bytes).is_ok());
        for cut in 0..bytes.len() {
            let read = revisions(last, &bytes[..cut]);
            assert!(
                matches!(read, Err(StoreError::Damaged(_))),
                "cut at {cut}: {read:?}"
            );
        }
        let mut fewer = bytes.clone();
        fewer[START..START + 4].copy_from_slice(&(2 | ZSTD).to_be_bytes());
        let read = revisions(last, &fewer);
        assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
        let read = revisions(last - 1, &bytes);
        assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
    }

    #[test]
    fn a_row_of_an_older_build_is_read() {
        let of_older = [7_i64.to_be_bytes().as_slice(), &5_u32.to_be_bytes(), b"shown"].concat();
        let mut row = 9_u64.to_be_bytes().to_vec();
        row.extend_from_slice(&1_u32.to_be_bytes());
        row.extend_from_slice(&(of_older.len() as u32).to_be_bytes());
        row.extend_from_slice(&lz4_flex::block::compress(&of_older));
        let checksum = checksum(Revision(4), &row, None);
        row.extend_from_slice(&checksum.to_be_bytes());
        let read = revisions(Revision(4), &row, &Dictionaries::of(None)).unwrap();
        let expected = Recorded {
            revision: Revision(4),
            start: Start(9),
            time: Timestamp(7),
            history: b"shown".to_vec(),
        };
        assert_eq!(read, [expected]);
    }
}

//! The format of a batch in the write-ahead log; the crate's documentation has the bytes.
//!
//! The seed is random for each start of the service and secret: frames of an earlier start are not valid, and nobody
//! can forge one inside a record. The generation of the frame's segment counts too ([`Salt`]): what is left of an
//! earlier generation is not valid either.

use common::revision::Revision;
use common::time::Timestamp;

use crate::{Commit, StoreError, Table, Write};

const MAGIC: [u8; 4] = *b"VWL1";
const HEADER: usize = 24;
/// The checksum covers everything from here on.
const SUMMED: usize = 8;
const NONE: u32 = u32::MAX;

/// Ties frames to one start.
pub(super) type Seed = [u8; 8];

/// Ties frames to one generation of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt {
    /// The seed of the start.
    pub seed: Seed,
    /// Increases with each rotation.
    pub generation: u64,
}

/// Every frame begins at a multiple of this.
pub(super) const ALIGNMENT: usize = 8;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The first revision in it.
    pub first: Revision,
    /// The last revision in it.
    pub last: Revision,
    /// The length of the frame with its padding.
    pub bytes: usize,
}

/// Writes the frame of a batch into `frame`, replacing what was there.
pub(super) fn encode(salt: Salt, batch: &[Commit], frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[0; 4]);
    let first = batch.first().map_or(0, |commit| commit.revision.0);
    frame.extend_from_slice(&first.to_le_bytes());
    frame.extend_from_slice(&length(batch.len()));
    frame.extend_from_slice(&[0; 4]);
    for commit in batch {
        frame.extend_from_slice(&commit.time.0.to_le_bytes());
        frame.extend_from_slice(&length(commit.history.len()));
        frame.extend_from_slice(&length(commit.writes.len()));
        frame.extend_from_slice(&commit.history);
        for write in &commit.writes {
            frame.extend_from_slice(&length(write.table.0.len()));
            frame.extend_from_slice(&length(write.key.len()));
            match &write.value {
                Some(value) => frame.extend_from_slice(&length(value.len())),
                None => frame.extend_from_slice(&NONE.to_le_bytes()),
            }
            frame.extend_from_slice(write.table.0.as_bytes());
            frame.extend_from_slice(&write.key);
            frame.extend_from_slice(write.value.as_deref().unwrap_or_default());
        }
    }
    let length = length(frame.len() - HEADER);
    frame[HEADER - 4..HEADER].copy_from_slice(&length);
    let checksum = checksum(salt, &frame[SUMMED..]);
    frame[4..SUMMED].copy_from_slice(&checksum.to_le_bytes());
    frame.resize(frame.len().next_multiple_of(ALIGNMENT), 0);
}

/// Where the next frame may begin: the next multiple of [`ALIGNMENT`] that looks like a frame.
pub(super) fn search(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, &MAGIC).find(|at| at.is_multiple_of(ALIGNMENT))
}

/// The header of the frame at the beginning of `bytes`; none unless the frame is complete and valid.
pub(super) fn decode_header(salt: Salt, bytes: &[u8]) -> Option<FrameHeader> {
    let mut rest = Rest(bytes.strip_prefix(&MAGIC)?);
    let expected = rest.u32()?;
    let first = rest.u64()?;
    let count = rest.u32()?;
    let length = usize::try_from(rest.u32()?).ok()?;
    let end = HEADER.checked_add(length)?;
    let summed = bytes.get(SUMMED..end)?;
    let last = first.checked_add(u64::from(count.checked_sub(1)?))?;
    (checksum(salt, summed) == expected).then_some(FrameHeader {
        first: Revision(first),
        last: Revision(last),
        bytes: end.next_multiple_of(ALIGNMENT),
    })
}

/// The batch of a valid frame; `table` finds the table with a name.
///
/// # Errors
/// [`StoreError::Damaged`] if it cannot be decoded although its checksum is valid: another version wrote it.
pub(super) fn decode(
    header: &FrameHeader,
    bytes: &[u8],
    mut table: impl FnMut(&str) -> Table,
) -> Result<Vec<Commit>, StoreError> {
    let mut rest = Rest(bytes.get(HEADER..).unwrap_or_default());
    (header.first.0..=header.last.0)
        .map(|revision| commit(Revision(revision), &mut rest, &mut table))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            StoreError::Damaged(format!(
                "this version cannot read the frame of revision {} in the write-ahead log",
                header.first.0
            ))
        })
}

fn commit(revision: Revision, rest: &mut Rest<'_>, table: &mut impl FnMut(&str) -> Table) -> Option<Commit> {
    let time = Timestamp(i64::from_le_bytes(rest.array()?));
    let history = rest.length()?;
    let writes = rest.length()?;
    let history = rest.bytes(history)?.to_vec();
    let writes = (0..writes).map(|_| {
        let (name, key, value) = (rest.length()?, rest.length()?, rest.u32()?);
        let table = table(std::str::from_utf8(rest.bytes(name)?).ok()?);
        let key = rest.bytes(key)?.to_vec();
        let value = match value {
            NONE => None,
            length => Some(rest.bytes(usize::try_from(length).ok()?)?.to_vec()),
        };
        Some(Write { table, key, value })
    });
    Some(Commit {
        revision,
        time,
        writes: writes.collect::<Option<_>>()?,
        history,
    })
}

/// A batch has a few MiB at most.
fn length(length: usize) -> [u8; 4] {
    debug_assert!(length < NONE as usize, "{length} bytes in a batch");
    (length as u32).to_le_bytes()
}

fn checksum(salt: Salt, summed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.seed);
    hasher.update(&salt.generation.to_le_bytes());
    hasher.update(summed);
    hasher.finalize()
}

/// The remaining bytes.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = Salt {
        seed: [5; 8],
        generation: 3,
    };

    const BY_HAND: &str = "56574c31 42bfbe3b 0700000000000000 01000000 36000000 ffffffffffffffff 05000000 02000000 \
         73686f776e 01000000 02000000 03000000 61 6b31 76616c 01000000 02000000 ffffffff 62 6b32 0000";

    fn commits() -> impl Strategy<Value = Vec<Commit>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        let write = (
            prop_oneof![Just("a"), Just("host/by name")],
            bytes(),
            proptest::option::of(bytes()),
        );
        let write = write.prop_map(|(table, key, value)| Write {
            table: Table(table),
            key,
            value,
        });
        let commit = (any::<i64>(), bytes(), proptest::collection::vec(write, 0..4));
        proptest::collection::vec(commit, 1..5).prop_map(|commits| {
            let numbered = (7..).zip(commits);
            numbered
                .map(|(revision, (time, history, writes))| Commit {
                    revision: Revision(revision),
                    time: Timestamp(time),
                    history,
                    writes,
                })
                .collect()
        })
    }

    fn table(name: &str) -> Table {
        Table(
            ["a", "host/by name"]
                .into_iter()
                .find(|known| *known == name)
                .unwrap(),
        )
    }

    /// The frame that `tests/it/format.rs` reads by the crate's text.
    #[test]
    fn a_frame_is_written_as_the_text_says() {
        let write = |table, key: &[u8], value: Option<&[u8]>| Write {
            table: Table(table),
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        };
        let commit = Commit {
            revision: Revision(7),
            time: Timestamp(-1),
            history: b"shown".to_vec(),
            writes: vec![write("a", b"k1", Some(b"val")), write("b", b"k2", None)],
        };
        let mut frame = Vec::new();
        let salt = Salt {
            seed: *b"the seed",
            generation: 3,
        };
        encode(salt, &[commit], &mut frame);
        let digits: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, BY_HAND.replace(' ', ""));
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written_and_no_part_of_it_is(batch in commits(), flip in any::<(usize, u8)>()) {
            let mut frame = Vec::new();
            encode(SALT, &batch, &mut frame);
            let found = decode_header(SALT, &frame).unwrap();
            let expected = FrameHeader {
                first: Revision(7),
                last: batch.last().unwrap().revision,
                bytes: frame.len(),
            };
            prop_assert_eq!(found, expected);
            prop_assert_eq!(frame.len() % ALIGNMENT, 0);
            prop_assert_eq!(decode(&found, &frame, table).unwrap(), batch);
            prop_assert_eq!(decode_header(Salt { seed: [6; 8], ..SALT }, &frame), None, "another start's");
            prop_assert_eq!(decode_header(Salt { generation: 4, ..SALT }, &frame), None, "another generation's");

            let padding = frame.iter().rev().take_while(|byte| **byte == 0).count().min(ALIGNMENT - 1);
            for end in 0..frame.len() - padding {
                prop_assert_eq!(decode_header(SALT, &frame[..end]), None, "cut at {}", end);
            }
            let place = flip.0 % (frame.len() - padding);
            let mut damaged = frame.clone();
            damaged[place] ^= flip.1.max(1);
            prop_assert_eq!(decode_header(SALT, &damaged), None, "byte {} changed", place);
        }
    }
}

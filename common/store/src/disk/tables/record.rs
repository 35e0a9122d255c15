//! How a record lies in its table: how it is packed (4 bytes), that, and the CRC-32 of the table's name, the key and all before it, each
//! behind its length. Numbers are little-endian.
//!
//! | how it is packed | what follows |
//! |---|---|
//! | 0 | the value as it is |
//! | `LIKE` | how long it is (4 bytes), which sample (16), and the value in zstd, packed against that sample; the sample's own sum counts in the CRC |
//! | anything else: how long it is | the value in LZ4 |

use super::sample::{Id, Loaded, Samples};
use crate::StoreError;
use crate::disk::pack::Packer;

/// Packed against a sample. No value is as long as that.
const LIKE: u32 = u32::MAX;

/// Values from which on packing saves something.
const WORTH_PACKING: usize = 128;

/// What a record is packed against.
pub(super) struct Like<'a> {
    pub(super) id: Id,
    /// The sample's sum.
    pub(super) sum: u32,
    pub(super) packer: &'a mut Packer,
}

/// A record's value as it lies in its table, packed where that makes it shorter: ids stand in a record again and again, and whole
/// sentences in records of one family.
pub(super) fn summed(
    table: &str,
    key: &[u8],
    value: &[u8],
    like: Option<Like<'_>>,
) -> Result<Vec<u8>, StoreError> {
    let length = u32::try_from(value.len()).ok().filter(|length| *length < LIKE);
    let mut bytes = match (length, like) {
        (Some(length), Some(like)) if value.len() >= WORTH_PACKING => {
            let packed = like.packer.pack(value)?;
            let bytes = [
                LIKE.to_le_bytes().as_slice(),
                &length.to_le_bytes(),
                &like.id,
                &packed,
            ]
            .concat();
            return Ok(sealed(table, key, bytes, Some(like.sum)));
        }
        (Some(length), _) if value.len() >= WORTH_PACKING => {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend_from_slice(&lz4_flex::block::compress(value));
            bytes
        }
        _ => Vec::new(),
    };
    if bytes.is_empty() || bytes.len() >= size_of::<u32>() + value.len() {
        bytes.clear();
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(value);
    }
    Ok(sealed(table, key, bytes, None))
}

/// The sample that a record is packed against.
pub(super) fn like(bytes: &[u8]) -> Option<Id> {
    parts(bytes)?.0
}

/// A record's value, if it is what was written.
pub(super) fn whole(table: &str, key: &[u8], bytes: &[u8], samples: &Samples) -> Result<Vec<u8>, StoreError> {
    let damaged = |why: &str| {
        let key = shown(key);
        StoreError::Damaged(format!(
            "the record {key} of table {table} is not what was written{why}"
        ))
    };
    let (like, length, packed) = parts(bytes).ok_or_else(|| damaged(""))?;
    let unpacked = |sample: Option<&mut Loaded>| {
        let (kept, found) = bytes.split_last_chunk()?;
        let of_sample = sample.as_ref().map(|sample| sample.sum);
        if sum(table, key, kept, of_sample) != u32::from_le_bytes(*found) {
            return None;
        }
        match (sample, length) {
            (Some(sample), length) => sample.unpacker.unpack(packed, length),
            (None, 0) => Some(packed.to_vec()),
            (None, length) => lz4_flex::block::decompress(packed, length).ok(),
        }
    };
    let value = match like {
        Some(id) => samples
            .with(&id, |sample| unpacked(Some(sample)))
            .map_err(|error| match error {
                StoreError::Damaged(what) => damaged(&format!(": {what}")),
                error => error,
            })?,
        None => unpacked(None),
    };
    value.ok_or_else(|| damaged(""))
}

/// The sample, the length of the value, and that as it is packed; believed once the sum is right.
fn parts(bytes: &[u8]) -> Option<(Option<Id>, usize, &[u8])> {
    let (kept, _) = bytes.split_last_chunk::<{ size_of::<u32>() }>()?;
    let (how, rest) = kept.split_first_chunk()?;
    match u32::from_le_bytes(*how) {
        LIKE => {
            let (length, rest) = rest.split_first_chunk()?;
            let (id, packed) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            Some((Some(*id), length, packed))
        }
        length => Some((None, usize::try_from(length).ok()?, rest)),
    }
}

fn sealed(table: &str, key: &[u8], mut bytes: Vec<u8>, of_sample: Option<u32>) -> Vec<u8> {
    let sum = sum(table, key, &bytes, of_sample);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn sum(table: &str, key: &[u8], value: &[u8], of_sample: Option<u32>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    if let Some(sum) = of_sample {
        hasher.update(&sum.to_le_bytes());
    }
    hasher.finalize()
}

/// A key for people: the first bytes, hexadecimal.
pub(super) fn shown(key: &[u8]) -> String {
    key.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}

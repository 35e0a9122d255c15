//! How a record lies in its table.

use crate::store::StoreError;

/// Bytes of a record's sum, behind its value.
const SUM: usize = size_of::<u32>();

/// Bytes before a record's value: how long it is where it is packed, else 0.
const LENGTH: usize = size_of::<u32>();

/// Values from which on packing saves something.
const WORTH_PACKING: usize = 128;

/// A record's value as it lies in its table: packed with LZ4 where that makes it shorter (ids stand in a record again and
/// again), with the CRC-32 of the table's name, the key and that, each behind its length.
pub(super) fn summed(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let packed = (value.len() >= WORTH_PACKING)
        .then(|| lz4_flex::block::compress(value))
        .filter(|packed| packed.len() < value.len());
    let (length, kept) = match (&packed, u32::try_from(value.len())) {
        (Some(packed), Ok(length)) => (length, packed.as_slice()),
        _ => (0, value),
    };
    let mut bytes = Vec::with_capacity(LENGTH + kept.len() + SUM);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(kept);
    let sum = sum(table, key, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// A record's value, if it is what was written.
pub(super) fn whole(table: &str, key: &[u8], bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let unpacked = || {
        let (kept, found) = bytes.split_last_chunk()?;
        if sum(table, key, kept) != u32::from_le_bytes(*found) {
            return None;
        }
        let (length, value) = kept.split_first_chunk()?;
        match u32::from_le_bytes(*length) {
            0 => Some(value.to_vec()),
            length => lz4_flex::block::decompress(value, usize::try_from(length).ok()?).ok(),
        }
    };
    unpacked().ok_or_else(|| {
        StoreError::Damaged(format!(
            "the record {} of table {table} is not what was written",
            shown(key)
        ))
    })
}

fn sum(table: &str, key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

/// A key for people: the first bytes, hexadecimal.
fn shown(key: &[u8]) -> String {
    key.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}

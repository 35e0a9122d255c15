//! How a record lies in its table: the crate's text has the bytes.

use super::dictionary::{Dictionaries, DictionaryId, LoadedDictionary};
use crate::StoreError;
use crate::disk::compression::Compressor;

/// Compressed against a dictionary. No value is as long as that.
const WITH_DICTIONARY: u32 = u32::MAX;

/// Values from which on compression saves something.
const WORTH_COMPRESSING: usize = 128;

/// What a record is compressed against.
pub(super) struct DictionaryRef<'a> {
    pub(super) id: DictionaryId,
    /// The dictionary's checksum.
    pub(super) checksum: u32,
    pub(super) compressor: &'a mut Compressor,
}

/// A record's value as it lies in its table, compressed where that makes it shorter: ids stand in a record again and again, and whole
/// sentences in records of one family.
pub(super) fn encode(
    table: &str,
    key: &[u8],
    value: &[u8],
    dictionary: Option<DictionaryRef<'_>>,
) -> Result<Vec<u8>, StoreError> {
    let length = u32::try_from(value.len())
        .ok()
        .filter(|length| *length < WITH_DICTIONARY);
    let mut bytes = match (length, dictionary) {
        (Some(length), Some(dictionary)) if value.len() >= WORTH_COMPRESSING => {
            let compressed = dictionary.compressor.compress(value)?;
            let bytes = [
                WITH_DICTIONARY.to_le_bytes().as_slice(),
                &length.to_le_bytes(),
                &dictionary.id,
                &compressed,
            ]
            .concat();
            return Ok(with_checksum(table, key, bytes, Some(dictionary.checksum)));
        }
        (Some(length), _) if value.len() >= WORTH_COMPRESSING => {
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
    Ok(with_checksum(table, key, bytes, None))
}

/// The dictionary that a record is compressed against.
pub(super) fn dictionary_of(bytes: &[u8]) -> Option<DictionaryId> {
    parts(bytes)?.0
}

/// A record's value, if it is what was written.
pub(super) fn decode(
    table: &str,
    key: &[u8],
    bytes: &[u8],
    dictionaries: &Dictionaries,
) -> Result<Vec<u8>, StoreError> {
    let damaged = |why: &str| {
        let key = shown(key);
        StoreError::Damaged(format!(
            "the record {key} of table {table} is not what was written{why}"
        ))
    };
    let (id, length, compressed) = parts(bytes).ok_or_else(|| damaged(""))?;
    let decompressed = |dictionary: Option<&mut LoadedDictionary>| {
        let (kept, found) = bytes.split_last_chunk()?;
        let dictionary_checksum = dictionary.as_ref().map(|dictionary| dictionary.checksum);
        if checksum(table, key, kept, dictionary_checksum) != u32::from_le_bytes(*found) {
            return None;
        }
        match (dictionary, length) {
            (Some(dictionary), length) => dictionary.decompressor.decompress(compressed, length),
            (None, 0) => Some(compressed.to_vec()),
            (None, length) => lz4_flex::block::decompress(compressed, length).ok(),
        }
    };
    let value = match id {
        Some(id) => dictionaries
            .with(&id, |dictionary| decompressed(Some(dictionary)))
            .map_err(|error| match error {
                StoreError::Damaged(what) => damaged(&format!(": {what}")),
                error => error,
            })?,
        None => decompressed(None),
    };
    value.ok_or_else(|| damaged(""))
}

/// The dictionary, the length of the value, and that as it is compressed; believed once the checksum is right.
fn parts(bytes: &[u8]) -> Option<(Option<DictionaryId>, usize, &[u8])> {
    let (kept, _) = bytes.split_last_chunk::<{ size_of::<u32>() }>()?;
    let (how, rest) = kept.split_first_chunk()?;
    match u32::from_le_bytes(*how) {
        WITH_DICTIONARY => {
            let (length, rest) = rest.split_first_chunk()?;
            let (id, compressed) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            Some((Some(*id), length, compressed))
        }
        length => Some((None, usize::try_from(length).ok()?, rest)),
    }
}

fn with_checksum(table: &str, key: &[u8], mut bytes: Vec<u8>, dictionary_checksum: Option<u32>) -> Vec<u8> {
    let checksum = checksum(table, key, &bytes, dictionary_checksum);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn checksum(table: &str, key: &[u8], value: &[u8], dictionary_checksum: Option<u32>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    if let Some(checksum) = dictionary_checksum {
        hasher.update(&checksum.to_le_bytes());
    }
    hasher.finalize()
}

/// A key for people: the first bytes, hexadecimal.
pub(super) fn shown(key: &[u8]) -> String {
    key.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}

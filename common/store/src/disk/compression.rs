//! zstd as the tables use it: fast, with dictionaries.

use std::fmt;
use std::io;

use zstd::bulk;

use crate::StoreError;

/// The fastest level that uses entropy coding: ids as text are half of all data.
const LEVEL: i32 = 1;

/// A compressor. Creating one costs more than using it.
pub(super) struct Compressor(bulk::Compressor<'static>);

impl Compressor {
    /// For data without a dictionary.
    pub(super) fn new() -> Result<Self, StoreError> {
        Self::against(&[])
    }

    /// For data that repeats much of this dictionary.
    pub(super) fn against(dictionary: &[u8]) -> Result<Self, StoreError> {
        let compressor = bulk::Compressor::with_dictionary(LEVEL, dictionary);
        compressor.map(Self).map_err(|error| failed(&error))
    }

    pub(super) fn compress(&mut self, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.0.compress(bytes).map_err(|error| failed(&error))
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

/// Decompresses the output of a [`Compressor`]. Used only after the checksum was verified, so the length is correct.
pub(super) struct Decompressor(bulk::Decompressor<'static>);

impl Decompressor {
    /// For data that was compressed with this dictionary; none if zstd refuses it.
    pub(super) fn against(dictionary: &[u8]) -> Option<Self> {
        bulk::Decompressor::with_dictionary(dictionary).ok().map(Self)
    }

    /// None unless the result has exactly `length` bytes.
    pub(super) fn decompress(&mut self, compressed: &[u8], length: usize) -> Option<Vec<u8>> {
        let bytes = self.0.decompress(compressed, length).ok()?;
        (bytes.len() == length).then_some(bytes)
    }
}

/// Decompresses data without a dictionary.
pub(super) fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    Decompressor::against(&[])?.decompress(compressed, length)
}

fn failed(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot compress: {error}"))
}

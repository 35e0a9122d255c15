//! zstd, as the tables use it: quick, and with what a record is compressed against.

use std::fmt;
use std::io;

use zstd::bulk;

use crate::StoreError;

/// The quickest that still codes letters by how often they come: ids as text are half of all there is.
const LEVEL: i32 = 1;

/// Compresses. Making one costs more than using it.
pub(super) struct Compressor(bulk::Compressor<'static>);

impl Compressor {
    /// For what stands for itself.
    pub(super) fn new() -> Result<Self, StoreError> {
        Self::against(&[])
    }

    /// For what repeats much of this dictionary.
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

/// Decompresses what a [`Compressor`] made. Used only behind a checksum that is right: the length is what was written.
pub(super) struct Decompressor(bulk::Decompressor<'static>);

impl Decompressor {
    /// Of what was compressed against this dictionary; none where zstd refuses it.
    pub(super) fn against(dictionary: &[u8]) -> Option<Self> {
        bulk::Decompressor::with_dictionary(dictionary).ok().map(Self)
    }

    /// None unless exactly `length` bytes come out.
    pub(super) fn decompress(&mut self, compressed: &[u8], length: usize) -> Option<Vec<u8>> {
        let bytes = self.0.decompress(compressed, length).ok()?;
        (bytes.len() == length).then_some(bytes)
    }
}

/// What was compressed without a dictionary.
pub(super) fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    Decompressor::against(&[])?.decompress(compressed, length)
}

fn failed(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("nothing can be compressed: {error}"))
}

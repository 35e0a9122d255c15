//! zstd, as the tables use it: quick, and with what a record is packed against.

use std::fmt;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

use crate::StoreError;

/// The quickest that still codes letters by how often they come: ids as text are half of all there is.
const LEVEL: i32 = 1;

/// Packs. Making one costs more than using it.
pub(super) struct Packer(Compressor<'static>);

impl Packer {
    /// For what stands for itself.
    pub(super) fn new() -> Result<Self, StoreError> {
        Self::against(&[])
    }

    /// For what repeats much of this.
    pub(super) fn against(sample: &[u8]) -> Result<Self, StoreError> {
        let packer = Compressor::with_dictionary(LEVEL, sample);
        packer.map(Self).map_err(|error| failed(&error))
    }

    pub(super) fn pack(&mut self, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.0.compress(bytes).map_err(|error| failed(&error))
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

/// Unpacks what a [`Packer`] made. Used only behind a sum that is right: the length is what was written.
pub(super) struct Unpacker(Decompressor<'static>);

impl Unpacker {
    /// Of what was packed against this; none where zstd refuses it.
    pub(super) fn against(sample: &[u8]) -> Option<Self> {
        Decompressor::with_dictionary(sample).ok().map(Self)
    }

    /// None unless exactly `length` bytes come out.
    pub(super) fn unpack(&mut self, packed: &[u8], length: usize) -> Option<Vec<u8>> {
        let unpacked = self.0.decompress(packed, length).ok()?;
        (unpacked.len() == length).then_some(unpacked)
    }
}

/// What was packed by itself.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    Unpacker::against(&[])?.unpack(packed, length)
}

fn failed(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("nothing can be packed: {error}"))
}

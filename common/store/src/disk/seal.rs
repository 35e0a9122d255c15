//! The seal: a mark, in a file of its own, of the last frame that is known to be durable. It distinguishes a frame
//! that was torn by a crash and never acknowledged from one that was acknowledged and is damaged: frames after the
//! mark may be torn, and frames before it must be intact.
//!
//! The mark is written after the frame and before the answer. It is not synced: after a kill the kernel still has it,
//! and after a power cut an older mark is still valid, for less.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::revision::Revision;

use super::frame::Seed;
use crate::data_dir::{self, Access};

/// The file in the data directory.
pub(super) const FILE: &str = "store.seal";

/// Marks are written alternately into two places in two sectors: if one is torn, the other remains.
const PLACES: [u64; 2] = [0, 512];

const MAGIC: [u8; 4] = *b"VSL1";
const BYTES: usize = 32;

/// Everything up to and including `revision` is durable; in the log's file of this generation it ends at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Mark {
    pub generation: u64,
    pub offset: u64,
    pub revision: Revision,
}

/// The seal of one start.
#[derive(Debug)]
pub(super) struct Seal {
    file: File,
    seed: Seed,
    turn: usize,
}

impl Seal {
    /// Creates the file, with a mark in both places; durable when it returns.
    pub(super) fn create(dir: &Path, seed: Seed, mark: Mark) -> io::Result<Self> {
        let file = data_dir::open(&dir.join(FILE), Access::ReadWrite)?;
        let mut seal = Self { file, seed, turn: 0 };
        seal.set(mark)?;
        seal.set(mark)?;
        seal.file.sync_all()?;
        Ok(seal)
    }

    /// Moves the mark forward.
    pub(super) fn set(&mut self, mark: Mark) -> io::Result<()> {
        self.file
            .write_all_at(&encode(self.seed, mark), PLACES[self.turn])?;
        self.turn = 1 - self.turn;
        Ok(())
    }

    /// The furthest mark of a log of this seed; none if no place holds one.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is truncated: both places are written before anything is committed.
    pub(super) fn read(dir: &Path, seed: Seed) -> io::Result<Option<Mark>> {
        let file = data_dir::open(&dir.join(FILE), Access::Read)?;
        let mut found = None;
        for place in PLACES {
            let mut bytes = [0; BYTES];
            file.read_exact_at(&mut bytes, place)?;
            found = found.max(decode(seed, &bytes));
        }
        Ok(found)
    }
}

fn encode(seed: Seed, mark: Mark) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&mark.generation.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.offset.to_le_bytes());
    bytes[24..].copy_from_slice(&mark.revision.0.to_le_bytes());
    let checksum = checksum(seed, &bytes).to_le_bytes();
    bytes[4..8].copy_from_slice(&checksum);
    bytes
}

fn decode(seed: Seed, bytes: &[u8; BYTES]) -> Option<Mark> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
    let is_whole = bytes[..4] == MAGIC && bytes[4..8] == checksum(seed, bytes).to_le_bytes();
    let mark = Mark {
        generation: number(8)?,
        offset: number(16)?,
        revision: Revision(number(24)?),
    };
    is_whole.then_some(mark)
}

fn checksum(seed: Seed, bytes: &[u8; BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed);
    hasher.update(&bytes[8..]);
    hasher.finalize()
}

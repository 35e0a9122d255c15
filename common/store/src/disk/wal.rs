//! The write-ahead log: two files that are written by turns, so that one can be written while what the other one holds
//! is brought into the tables. Room for both is taken when they are made, and they are written over again and again: to
//! make a batch durable is one durable write, which has no metadata to change.
//!
//! Each round through a file begins with a head, durable before anything follows it, that says whose the file is and what it goes on from:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `VWH1` |
//! | 4 | the CRC-32 of what follows |
//! | 16, 8 | the store and the start |
//! | 8 | the generation: 1 for the first file of a start, then one more with each round |
//! | 8 | the last revision before it |
//! | 8 | the seed |
//!
//! Nothing is written behind a frame before it is durable, so only the very last frame can be incomplete: one that
//! nobody was told of. Any other that is not whole is damage: the heads and the seal tell how far there was one.

mod left;
mod segment;

use std::io;
use std::path::Path;

use common::id::StoreId;
use common::revision::{Revision, Start};

pub(super) use self::left::{Expected, File, Files, left_over, saved, scan};
use self::segment::Segment;
use super::frame::{self, Salt, Seed};
use super::seal::{Mark, Seal};
use crate::{Commit, StoreError};

/// The files in the data directory.
pub(super) const FILES: [&str; 2] = ["store.wal-0", "store.wal-1"];

const MAGIC: [u8; 4] = *b"VWH1";
const HEAD: usize = 56;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of {
    pub store_id: StoreId,
    pub start: Start,
    pub seed: Seed,
}

/// What a file of the log says of itself. Generation 0: nothing was written into it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub store_id: StoreId,
    pub start: Start,
    pub generation: u64,
    pub base: Revision,
    pub seed: Seed,
}

/// How long each file of a log is whose files have so much room.
pub(super) const fn file_bytes(capacity: u64) -> u64 {
    segment::length(capacity)
}

/// Where batches become durable.
#[derive(Debug)]
pub(super) struct Wal {
    segments: [Segment; 2],
    of: Of,
    seal: Seal,
    /// Which is written now.
    turn: usize,
    generation: u64,
    frame: Vec<u8>,
    /// The other file may have a head of a round that never began.
    in_doubt: bool,
}

impl Wal {
    /// Makes the log of a start that goes on from `base`, with `capacity` bytes in each file. What an earlier start left in the files is
    /// written over.
    pub(super) fn create(dir: &Path, capacity: u64, of: Of, base: Revision) -> Result<Self, StoreError> {
        let open = |name, generation| {
            let path = dir.join(name);
            let begun = Segment::open(&path, capacity).and_then(|mut segment| {
                segment.begin(&head(of, generation, base))?;
                Ok(segment)
            });
            begun.map_err(|error| super::at(&path, &error))
        };
        let [first, second] = FILES;
        let segments = [open(first, 1)?, open(second, 0)?];
        let mark = Mark {
            generation: 1,
            offset: segments[0].offset(),
            revision: base,
        };
        let seal = Seal::create(dir, of.seed, mark)
            .map_err(|error| super::at(&dir.join(super::seal::FILE), &error))?;
        Ok(Self {
            segments,
            of,
            seal,
            turn: 0,
            generation: 1,
            frame: Vec::new(),
            in_doubt: false,
        })
    }

    /// Counts the rounds.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes the frame of a batch that is to be appended, and says whether this file has room for it. One that is larger
    /// than a file gets one of its own.
    pub(super) fn prepare(&mut self, batch: &[Commit]) -> bool {
        let salt = Salt {
            seed: self.of.seed,
            generation: self.generation,
        };
        frame::encode(salt, batch, &mut self.frame);
        self.segments[self.turn].has_room_for(self.frame.len())
    }

    /// Appends the frame that was prepared. When it returns `Ok` it is on disk, and is to be sealed or rejected.
    ///
    /// # Errors
    /// Whether it is on disk is unknown then: [`Wal::take_back`] it.
    pub(super) fn append(&mut self) -> io::Result<()> {
        self.segments[self.turn].append(&self.frame)
    }

    /// Seals what was appended, whose last revision is `last`: it is about to be acknowledged.
    pub(super) fn seal(&mut self, last: Revision) {
        let mark = Mark {
            generation: self.generation,
            offset: self.segments[self.turn].offset(),
            revision: last,
        };
        if let Err(error) = self.seal.set(mark) {
            // The frame is on disk all the same. An older mark is still true, of less.
            tracing::error!(%error, "the seal of the write-ahead log cannot be written");
        }
    }

    /// What was appended last is not to be acknowledged: [`Wal::take_back`] it.
    pub(super) fn reject(&mut self) {
        self.segments[self.turn].reject();
    }

    /// Whether the file that is written now has less room left than it holds.
    pub(super) fn is_half_full(&self) -> bool {
        self.segments[self.turn].is_half_full()
    }

    /// Makes sure that nothing is left of a frame, or of a head, that could not be written.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        if self.in_doubt {
            self.segments[1 - self.turn].begin(&head(self.of, 0, Revision(0)))?;
            self.in_doubt = false;
        }
        self.segments[self.turn].take_back()
    }

    /// Goes on with the other file, from its beginning, behind `base`: what it holds must be in the tables.
    ///
    /// # Errors
    /// This file is still the one that is written. Before more is, [`Wal::take_back`].
    pub(super) fn switch(&mut self, base: Revision) -> io::Result<()> {
        let next = head(self.of, self.generation + 1, base);
        self.in_doubt = true;
        self.segments[1 - self.turn].begin(&next)?;
        self.in_doubt = false;
        self.turn = 1 - self.turn;
        self.generation += 1;
        Ok(())
    }
}

fn head(of: Of, generation: u64, base: Revision) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(of.store_id.as_bytes());
    bytes[24..32].copy_from_slice(&of.start.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&generation.to_le_bytes());
    bytes[40..48].copy_from_slice(&base.0.to_le_bytes());
    bytes[48..].copy_from_slice(&of.seed);
    let sum = crc32fast::hash(&bytes[8..]).to_le_bytes();
    bytes[4..8].copy_from_slice(&sum);
    bytes
}

/// The head that a file begins with; none if it is not whole.
fn read_head(bytes: &[u8]) -> Option<Head> {
    let bytes = bytes.get(..HEAD)?;
    let number = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
    if bytes[..4] != MAGIC || bytes[4..8] != crc32fast::hash(&bytes[8..]).to_le_bytes() {
        return None;
    }
    Some(Head {
        store_id: StoreId::from_uuid(uuid::Uuid::from_slice(&bytes[8..24]).ok()?),
        start: Start(number(24)?),
        generation: number(32)?,
        base: Revision(number(40)?),
        seed: bytes[48..].try_into().ok()?,
    })
}

#[cfg(test)]
mod tests;

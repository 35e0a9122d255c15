//! The write-ahead log: two segments that are written by turns, so that one can be written while what the other one holds
//! is brought into the tables. Room for both is taken when they are made, and they are written over again and again: to
//! make a batch durable is one durable write, which has no metadata to change.
//!
//! Each generation begins with a header, durable before anything follows it, that says whose the segment is and what it goes on from. The
//! crate's text has the bytes.
//!
//! Nothing is written behind a frame before it is durable, so only the very last frame can be incomplete: one that
//! nobody was told of. Any other that is not whole is damage: the headers and the seal tell how far there was one.

mod recovery;
mod segment;

use std::io;
use std::path::Path;

use common::id::StoreId;
use common::revision::{Revision, Start};

pub(super) use self::recovery::{Expected, SegmentImage, read_segments, recover, salvage};
use self::segment::Segment;
use super::frame::{self, Salt, Seed};
use super::seal::{Mark, Seal};
use crate::{Commit, StoreError};

/// The files in the data directory.
pub(super) const FILES: [&str; 2] = ["store.wal-0", "store.wal-1"];

const MAGIC: [u8; 4] = *b"VWH1";
const HEADER: usize = 56;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId {
    pub store_id: StoreId,
    pub start: Start,
    pub seed: Seed,
}

/// What a segment says of itself. Generation 0: nothing was written into it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub store_id: StoreId,
    pub start: Start,
    pub generation: u64,
    pub base: Revision,
    pub seed: Seed,
}

/// How long each segment is that has room for so much.
pub(super) const fn segment_bytes(capacity: u64) -> u64 {
    segment::length(capacity)
}

/// Where batches become durable.
#[derive(Debug)]
pub(super) struct Wal {
    segments: [Segment; 2],
    log: LogId,
    seal: Seal,
    /// Which is written now.
    turn: usize,
    generation: u64,
    frame: Vec<u8>,
    /// The other segment may have a header of a generation that never began.
    in_doubt: bool,
}

impl Wal {
    /// Makes the log of a start that goes on from `base`, with `capacity` bytes in each segment. What an earlier start left in the
    /// segments is written over.
    pub(super) fn create(dir: &Path, capacity: u64, log: LogId, base: Revision) -> Result<Self, StoreError> {
        let open = |name, generation| {
            let path = dir.join(name);
            let begun = Segment::open(&path, capacity).and_then(|mut segment| {
                segment.begin(&encode_header(log, generation, base))?;
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
        let seal = Seal::create(dir, log.seed, mark)
            .map_err(|error| super::at(&dir.join(super::seal::FILE), &error))?;
        Ok(Self {
            segments,
            log,
            seal,
            turn: 0,
            generation: 1,
            frame: Vec::new(),
            in_doubt: false,
        })
    }

    /// One more with each rotation.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes the frame of a batch that is to be appended, and says whether this segment has room for it. One that is larger
    /// than a segment gets one of its own.
    pub(super) fn prepare(&mut self, batch: &[Commit]) -> bool {
        let salt = Salt {
            seed: self.log.seed,
            generation: self.generation,
        };
        frame::encode(salt, batch, &mut self.frame);
        self.segments[self.turn].has_room_for(self.frame.len())
    }

    /// Appends the frame that was prepared. When it returns `Ok` it is on disk, and is to be sealed or rejected.
    ///
    /// # Errors
    /// Whether it is on disk is unknown then: [`Wal::discard_tail`] it.
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

    /// What was appended last is not to be acknowledged: [`Wal::discard_tail`] it.
    pub(super) fn reject(&mut self) {
        self.segments[self.turn].reject();
    }

    /// Whether the segment that is written now has less room left than it holds.
    pub(super) fn is_half_full(&self) -> bool {
        self.segments[self.turn].is_half_full()
    }

    /// How full the segment is that is written now, from 0 to 1, and the length of both, in bytes.
    pub(super) fn fill(&self) -> (f64, u64) {
        let segment = &self.segments[self.turn];
        // One frame that is larger than a segment has it alone.
        let fill = segment.offset() as f64 / segment.capacity() as f64;
        (fill.min(1.0), self.segments.iter().map(Segment::capacity).sum())
    }

    /// Makes sure that nothing is left of a frame, or of a header, that could not be written.
    pub(super) fn discard_tail(&mut self) -> io::Result<()> {
        if self.in_doubt {
            self.segments[1 - self.turn].begin(&encode_header(self.log, 0, Revision(0)))?;
            self.in_doubt = false;
        }
        self.segments[self.turn].discard_tail()
    }

    /// Goes on with the other segment, from its beginning, behind `base`: what it holds must be in the tables.
    ///
    /// # Errors
    /// This segment is still the one that is written. Before more is, [`Wal::discard_tail`].
    pub(super) fn rotate(&mut self, base: Revision) -> io::Result<()> {
        let next = encode_header(self.log, self.generation + 1, base);
        self.in_doubt = true;
        self.segments[1 - self.turn].begin(&next)?;
        self.in_doubt = false;
        self.turn = 1 - self.turn;
        self.generation += 1;
        Ok(())
    }
}

fn encode_header(log: LogId, generation: u64, base: Revision) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(log.store_id.as_bytes());
    bytes[24..32].copy_from_slice(&log.start.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&generation.to_le_bytes());
    bytes[40..48].copy_from_slice(&base.0.to_le_bytes());
    bytes[48..].copy_from_slice(&log.seed);
    let checksum = crc32fast::hash(&bytes[8..]).to_le_bytes();
    bytes[4..8].copy_from_slice(&checksum);
    bytes
}

/// The header that a segment begins with; none if it is not whole.
fn decode_header(bytes: &[u8]) -> Option<SegmentHeader> {
    let bytes = bytes.get(..HEADER)?;
    let number = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
    if bytes[..4] != MAGIC || bytes[4..8] != crc32fast::hash(&bytes[8..]).to_le_bytes() {
        return None;
    }
    Some(SegmentHeader {
        store_id: StoreId::from_uuid(uuid::Uuid::from_slice(&bytes[8..24]).ok()?),
        start: Start(number(24)?),
        generation: number(32)?,
        base: Revision(number(40)?),
        seed: bytes[48..].try_into().ok()?,
    })
}

#[cfg(test)]
mod tests;

//! The write-ahead log: two files that are written by turns, so that one can be written while what the other one holds
//! is brought into the tables. Room for both is taken when they are made, and they are written over again and again: to
//! make a batch durable is one durable write, which has no metadata to change.
//!
//! Nothing is written behind a frame before it is durable, so only the very last frame can be incomplete: one that
//! nobody was told of. Any other that is not whole is damage, and is found by what follows it.

mod segment;

use std::io;
use std::path::Path;

use common::revision::Revision;

use self::segment::Segment;
use super::frame::{self, ALIGNMENT, Header, Seed};
use super::layer::Layer;
use crate::store::{Commit, StoreError, Table};

/// The files in the data directory.
pub(super) const FILES: [&str; 2] = ["store.wal-0", "store.wal-1"];

/// Where batches become durable.
#[derive(Debug)]
pub(super) struct Wal {
    segments: [Segment; 2],
    seed: Seed,
    /// Which is written now.
    turn: usize,
    frame: Vec<u8>,
}

impl Wal {
    /// Opens the files of a data directory, or makes them, for `capacity` bytes each; what is appended is of `seed`.
    pub(super) fn open(dir: &Path, capacity: u64, seed: Seed) -> Result<Self, StoreError> {
        let open = |name| {
            let path = dir.join(name);
            Segment::open(&path, capacity).map_err(|error| super::at(&path, &error))
        };
        let [first, second] = FILES;
        Ok(Self {
            segments: [open(first)?, open(second)?],
            seed,
            turn: 0,
            frame: Vec::new(),
        })
    }

    /// Makes the frame of a batch that is to be appended, and says whether this file has room for it. One that is larger
    /// than a file gets one of its own.
    pub(super) fn prepare(&mut self, batch: &[Commit]) -> bool {
        frame::encode(self.seed, batch, &mut self.frame);
        self.segments[self.turn].has_room_for(self.frame.len())
    }

    /// Appends the frame that was prepared. When it returns `Ok` it is on disk.
    ///
    /// # Errors
    /// Whether it is on disk is unknown then: [`Wal::take_back`] it.
    pub(super) fn append(&mut self) -> io::Result<()> {
        self.segments[self.turn].append(&self.frame)
    }

    /// Whether the file that is written now has less room left than it holds.
    pub(super) fn is_half_full(&self) -> bool {
        self.segments[self.turn].is_half_full()
    }

    /// Makes sure that nothing is left of a frame that could not be appended.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        self.segments[self.turn].take_back()
    }

    /// Goes on with the other file, from its beginning: what it holds must be in the tables.
    pub(super) fn switch(&mut self) {
        self.turn = 1 - self.turn;
        self.segments[self.turn].rewind();
    }
}

/// What the start of `seed` left of revisions after `current`, in the files of a data directory.
///
/// # Errors
/// [`StoreError::Damaged`] if a revision is missing that was durable.
pub(super) fn left_over(dir: &Path, seed: Seed, current: Revision) -> Result<Layer, StoreError> {
    let mut pieces = Vec::new();
    for path in FILES.map(|name| dir.join(name)) {
        match segment::written(&path) {
            Ok(written) => pieces.extend(written),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged(format!(
                    "{} is missing: what was committed last is in it",
                    path.display()
                )));
            }
            Err(error) => return Err(super::at(&path, &error)),
        }
    }
    let mut frames: Vec<_> = pieces.iter().flat_map(|bytes| frames(seed, bytes)).collect();
    frames.retain(|(header, _)| header.last > current);
    frames.sort_by_key(|(header, _)| header.first);
    let mut layer = Layer::default();
    let mut tables = Tables::default();
    let mut next = current.next();
    for (header, bytes) in frames {
        if header.first != next {
            return Err(StoreError::Damaged(format!(
                "revision {} is missing in the write-ahead log, which goes on with {}",
                next.0, header.first.0
            )));
        }
        layer.push(frame::decode(&header, bytes, |name| tables.named(name))?.into());
        next = header.last.next();
    }
    Ok(layer)
}

/// All whole frames, wherever they begin: behind damage too, and those of a round before.
fn frames(seed: Seed, bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += frame::search(bytes.get(at..)?)?;
            let rest = &bytes[at..];
            match frame::header(seed, rest) {
                Some(header) => {
                    at += header.bytes;
                    return Some((header, rest));
                }
                None => at += ALIGNMENT,
            }
        }
    })
}

/// The names of tables as they are in a program: few, and for as long as it lives.
#[derive(Default)]
struct Tables(Vec<Table>);

impl Tables {
    fn named(&mut self, name: &str) -> Table {
        if let Some(known) = self.0.iter().find(|known| known.0 == name) {
            return *known;
        }
        let table = Table(Box::leak(name.into()));
        self.0.push(table);
        table
    }
}

#[cfg(test)]
mod tests;

//! The write-ahead log: two files that are written by turns, so that one can be written while what the other one holds
//! is brought into the tables. Room for both is taken when they are made, and they are written over again and again: to
//! make a batch durable is one write and one fdatasync, which has no metadata to write.
//!
//! Nothing is written behind a frame before it is durable, so only the very last frame can be incomplete: one that
//! nobody was told of. Any other that is not whole is damage, and is found by what follows it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::revision::Revision;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::frame::{self, ALIGNMENT, Header, Seed};
use super::layer::Layer;
use crate::store::{Commit, StoreError, Table};

/// The files in the data directory.
const FILES: [&str; 2] = ["store.wal-0", "store.wal-1"];

/// Where batches become durable.
#[derive(Debug)]
pub(super) struct Wal {
    files: [File; 2],
    seed: Seed,
    /// Which is written now.
    turn: usize,
    /// Where the next frame goes.
    offset: u64,
    /// What a file should not grow beyond.
    capacity: u64,
    frame: Vec<u8>,
}

impl Wal {
    /// Opens the files of a data directory, or makes them, for `capacity` bytes each; what is appended is of `seed`.
    pub(super) fn open(dir: &Path, capacity: u64, seed: Seed) -> Result<Self, StoreError> {
        let paths = FILES.map(|name| dir.join(name));
        let [first, second] = &paths;
        let wal = Self {
            files: [open(first, capacity)?, open(second, capacity)?],
            seed,
            turn: 0,
            offset: 0,
            capacity,
            frame: Vec::new(),
        };
        Ok(wal)
    }

    /// Makes the frame of a batch that is to be appended, and says whether this file has room for it.
    pub(super) fn prepare(&mut self, batch: &[Commit]) -> bool {
        frame::encode(self.seed, batch, &mut self.frame);
        // One that is larger than a file gets one of its own.
        self.offset == 0 || self.offset + self.frame.len() as u64 <= self.capacity
    }

    /// Appends the frame that was prepared. When it returns `Ok` it is on disk.
    ///
    /// # Errors
    /// Whether it is on disk is unknown then: [`Wal::take_back`] it.
    pub(super) fn append(&mut self) -> io::Result<()> {
        let file = &self.files[self.turn];
        file.write_all_at(&self.frame, self.offset)?;
        file.sync_data()?;
        self.offset += self.frame.len() as u64;
        Ok(())
    }

    /// Makes sure that nothing is left of a frame that could not be appended.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let file = &self.files[self.turn];
        // Needs no room, wherever the frame was cut off.
        file.set_len(self.offset)?;
        file.sync_all()?;
        allocate(file, self.capacity);
        Ok(())
    }

    /// Goes on with the other file, from its beginning: what it holds must be in the tables.
    pub(super) fn switch(&mut self) {
        self.turn = 1 - self.turn;
        self.offset = 0;
    }
}

/// What the start of `seed` left of revisions after `current`, in the files of a data directory.
///
/// # Errors
/// [`StoreError::Damaged`] if a revision is missing that was durable.
pub(super) fn left_over(dir: &Path, seed: Seed, current: Revision) -> Result<Layer, StoreError> {
    let mut contents = Vec::new();
    for path in FILES.map(|name| dir.join(name)) {
        match fs::read(&path) {
            Ok(content) => contents.push(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged(format!(
                    "{} is missing: what was committed last is in it",
                    path.display()
                )));
            }
            Err(error) => return Err(super::at(&path, &error)),
        }
    }
    let mut frames: Vec<_> = contents.iter().flat_map(|bytes| frames(seed, bytes)).collect();
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

fn open(path: &Path, capacity: u64) -> Result<File, StoreError> {
    let opened = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let synced = opened.and_then(|file| {
        allocate(&file, capacity);
        file.sync_all()?;
        Ok(file)
    });
    synced.map_err(|error| super::at(path, &error))
}

/// Takes the room ahead. Where there is none, or none can be taken, each write takes what it needs, or fails.
fn allocate(file: &File, capacity: u64) {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, capacity) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(error) => tracing::warn!(%error, capacity, "no room can be taken ahead for the write-ahead log"),
    }
}

/// All whole frames, wherever they begin: behind damage too, and those of a round before.
fn frames(seed: Seed, bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match frame::header(seed, rest) {
                Some(header) => {
                    at += header.bytes;
                    return Some((header, rest));
                }
                None => at += ALIGNMENT,
            }
        }
        None
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

//! Reading the audit log, newest first.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use store::data_dir::{self, Access};
use tokio::sync::{Semaphore, oneshot};

use super::file::older;
use crate::threads;

/// Bytes that are read at once: more than the longest line.
const PIECE: u64 = 64 << 10;

/// The files of an audit log, for readers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trail {
    path: Arc<Path>,
    keep: u32,
    /// One reader at a time: a disk that does not answer holds up one thread.
    turn: Arc<Semaphore>,
}

/// Lines that were read at once, newest first.
#[derive(Debug, Default)]
pub struct Piece {
    /// Each line, and the position after which older lines follow.
    pub lines: Vec<(Vec<u8>, Line)>,
    /// The position after which older lines follow; none at the end.
    pub next: Option<Vec<u8>>,
}

/// A line of the audit log, as read.
#[derive(Debug)]
pub struct Line(Value);

impl Line {
    /// The text with this name; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// How many entries are missing; 0 for an entry.
    pub fn missing(&self) -> u64 {
        self.0["count"].as_u64().unwrap_or_default()
    }
}

/// Everything in one of the files before an offset. Rotation renames files, so a file is known by its inode.
#[derive(Debug, Clone, Copy)]
struct Position {
    inode: u64,
    offset: u64,
}

impl Trail {
    pub(super) fn of(path: &Path, keep: u32) -> Self {
        Self {
            path: path.into(),
            keep,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Runs `work` where it may block, when it is its turn.
    ///
    /// # Errors
    /// The error of `work`.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let broke_off = || io::Error::other("the reader broke off");
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_| broke_off())?;
        let (answer, answered) = oneshot::channel();
        let trail = self.clone();
        threads::blocking(move || {
            let outcome = work(&trail);
            drop(turn);
            // Nobody may wait for it any more.
            let _ = answer.send(outcome);
        });
        answered.await.unwrap_or_else(|_| Err(broke_off()))
    }

    /// The lines before a position (none: the newest). A position in a file that has been removed since is the end. May
    /// block.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn before(&self, position: Option<&[u8]>) -> io::Result<Piece> {
        let position = match position {
            Some(position) => Position::read(position),
            None => self.end_of_file_after(None)?,
        };
        let Some(position) = position else {
            return Ok(Piece::default());
        };
        let Some(file) = self.file(position.inode)? else {
            return Ok(Piece::default());
        };
        let end = position.offset.min(file.metadata()?.len());
        let start = end.saturating_sub(PIECE);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut bytes, start)?;
        // What stands before the first newline may be the end of a line that begins earlier.
        let first = match start {
            0 => 0,
            _ => bytes
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(bytes.len(), |at| at + 1),
        };
        let mut piece = Piece::default();
        let mut offset = start + first as u64;
        let next = match start {
            0 => None,
            // No line of ours is so long.
            _ if first == bytes.len() => Some(start),
            _ => Some(offset),
        };
        let mut unreadable = 0;
        for line in bytes[first..].split_inclusive(|byte| *byte == b'\n') {
            let here = Position { offset, ..position };
            offset += line.len() as u64;
            match serde_json::from_slice(line) {
                Ok(value) => piece.lines.push((here.write(), Line(value))),
                // It is just being written.
                Err(_) if !line.ends_with(b"\n") => {}
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            let path = self.path.display();
            tracing::error!(unreadable, %path, "lines of the audit log cannot be read and are left out");
        }
        piece.lines.reverse();
        let next = match next {
            Some(offset) => Some(Position { offset, ..position }),
            None => self.end_of_file_after(Some(position.inode))?,
        };
        piece.next = next.map(Position::write);
        Ok(piece)
    }

    /// The end of the file that was begun before this one; of the newest, if none is given.
    fn end_of_file_after(&self, inode: Option<u64>) -> io::Result<Option<Position>> {
        let files = self.inodes()?;
        let at = match inode {
            None => Some(0),
            Some(inode) => files.iter().position(|(one, _)| *one == inode).map(|at| at + 1),
        };
        let found = at.and_then(|at| files.get(at));
        Ok(found.map(|(inode, _)| Position {
            inode: *inode,
            offset: u64::MAX,
        }))
    }

    /// An open file; none if the file has been removed.
    fn file(&self, inode: u64) -> io::Result<Option<File>> {
        let named = self.inodes()?;
        for (_, path) in named.iter().filter(|(one, _)| *one == inode) {
            let file = data_dir::open(path, Access::Read)?;
            if file.metadata()?.ino() == inode {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The files, newest first. If a rotation comes in between, one is seen twice and counts once.
    fn inodes(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        for number in 0..self.keep {
            let path = match number {
                0 => self.path.to_path_buf(),
                number => older(&self.path, number),
            };
            match fs::symlink_metadata(&path) {
                Ok(found) if files.last().is_some_and(|(last, _)| *last == found.ino()) => {
                    files.pop();
                    files.push((found.ino(), path));
                }
                Ok(found) => files.push((found.ino(), path)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Somebody has moved it, and the next line makes it again.
                Err(_) if number == 0 => {}
                Err(_) => break,
            }
        }
        Ok(files)
    }
}

impl Position {
    fn write(self) -> Vec<u8> {
        [self.inode.to_be_bytes(), self.offset.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (inode, offset) = bytes.split_first_chunk()?;
        Some(Self {
            inode: u64::from_be_bytes(*inode),
            offset: u64::from_be_bytes(offset.try_into().ok()?),
        })
    }
}

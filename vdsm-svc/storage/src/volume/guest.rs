//! What a guest sees of a volume, read by us and here and there: enough to tell a copy from none without a program
//! that could be the very thing that is wrong.

use std::fs::File;
use std::io;

use common::VolumeFormat;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::qcow2::{Qcow2Error, Qcow2Header, read_up_to};
use super::tables::{Place, Tables};

/// The most that one piece has, in bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// A volume without a parent, open.
pub(crate) struct Guest<'a> {
    file: &'a File,
    size_bytes: u64,
    /// Of a qcow2 file.
    tables: Option<Tables>,
}

/// A part of what a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it begins.
    pub(crate) at: u64,
    /// How long it is, in bytes.
    pub(crate) bytes: u64,
}

impl<'a> Guest<'a> {
    /// Looks at a file that keeps this format.
    ///
    /// # Errors
    /// [`Qcow2Error`].
    pub(crate) fn open(file: &'a File, format: VolumeFormat, size_bytes: u64) -> Result<Self, Qcow2Error> {
        let tables = match format {
            VolumeFormat::Raw => None,
            VolumeFormat::Cow => Some(Tables::read(file, &Qcow2Header::read(file)?)?),
        };
        Ok(Self {
            file,
            size_bytes,
            tables,
        })
    }

    /// Whether it is a qcow2 file whose tables tell of any data.
    pub(crate) fn has_tables(&self) -> bool {
        (self.tables.as_ref()).is_some_and(|tables| tables.second().next().is_some())
    }

    /// At most about so many pieces that hold data, from the first to the last, evenly spread, and the end of a raw
    /// file; data that only qemu can read (compressed, in subclusters) is in none either.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn pieces(&self, at_most: u64) -> io::Result<Vec<Piece>> {
        let starts = match &self.tables {
            None => self.data_starts(at_most)?,
            Some(tables) => tables.mapped(self.file, at_most)?,
        };
        let piece = |at: u64| Piece {
            at,
            bytes: PIECE_BYTES.min(self.size_bytes.saturating_sub(at)),
        };
        Ok(starts.into_iter().map(piece).filter(|p| p.bytes > 0).collect())
    }

    /// Of a raw file: the first data in each of so many parts, and its end.
    fn data_starts(&self, parts: u64) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        let parts = parts.max(1);
        for n in 0..parts {
            let part = |n| u64::try_from(u128::from(self.size_bytes) * u128::from(n) / u128::from(parts));
            let (start, end) = (part(n).unwrap_or(u64::MAX), part(n + 1).unwrap_or(u64::MAX));
            match seek(self.file, SeekFrom::Data(start)) {
                Ok(at) if at < end => found.push(at),
                // In a later part.
                Ok(_) => {}
                // No data from here on.
                Err(Errno::NXIO) => break,
                // The file system does not tell.
                Err(Errno::INVAL | Errno::OPNOTSUPP) if start < end => found.push(start),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
        }
        found.push(self.size_bytes.saturating_sub(PIECE_BYTES));
        found.dedup();
        Ok(found)
    }

    /// What a guest reads there; none where only qemu can read it.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn read(&self, piece: Piece) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0u8; usize::try_from(piece.bytes).unwrap_or(0)];
        let Some(tables) = &self.tables else {
            read_up_to(self.file, &mut bytes, piece.at)?;
            return Ok(Some(bytes));
        };
        let mut done = 0;
        while done < bytes.len() {
            let at = piece.at + done as u64;
            let left_of_cluster = tables.cluster_bytes() - at % tables.cluster_bytes();
            let end = bytes
                .len()
                .min(done + usize::try_from(left_of_cluster).unwrap_or(usize::MAX));
            match tables.place(self.file, at)? {
                Place::Zeros => {}
                Place::At(offset) => {
                    read_up_to(self.file, &mut bytes[done..end], offset)?;
                }
                Place::OnlyQemu => return Ok(None),
            }
            done = end;
        }
        Ok(Some(bytes))
    }
}

//! The file, the older files, and the thread that writes them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use store::data_dir::{self, Access};

use super::entry::missing;
use super::sink::{Batch, Sink};
use crate::clock;

/// How often a failed write is tried again, and how long a count waits if no entry comes with it.
const AGAIN: Duration = Duration::from_secs(1);

/// The least time between two syncs. No call waits for a sync: the change itself is durable in the store.
const SYNC: Duration = Duration::from_secs(1);

/// A file that is renamed when it is full, with a bounded number of older files beside it.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    size: u64,
    max_bytes: u64,
    /// The maximum number of files, including the present one.
    keep: u32,
    /// Whether the file may end within a line.
    is_torn: bool,
}

impl RotatedFile {
    pub(super) fn open(path: &Path, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let (file, size) = append_to(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            max_bytes,
            keep,
            is_torn: false,
        })
    }

    /// Appends lines: all of them, or none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // If somebody has moved or removed the file, nobody would find lines in the open one.
        if self.is_torn || !self.is_in_place() {
            (self.file, self.size) = append_to(&self.path)?;
            self.is_torn = false;
        }
        if self.size > 0 && self.size + lines.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let written = self.file.write_all(lines);
        match written {
            Ok(()) => self.size += lines.len() as u64,
            // The next line must not continue half a line.
            Err(_) => self.is_torn = self.file.set_len(self.size).is_err(),
        }
        written
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_in_place(&self) -> bool {
        let (Ok(named), Ok(open)) = (fs::symlink_metadata(&self.path), self.file.metadata()) else {
            return false;
        };
        (named.dev(), named.ino()) == (open.dev(), open.ino())
    }

    /// Makes the present file the first of the older files, and removes the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        for number in (1..self.keep.saturating_sub(1)).rev() {
            absent_is_fine(fs::rename(self.older(number), self.older(number + 1)))?;
        }
        fs::rename(&self.path, self.older(1))?;
        // More were kept before.
        let mut beyond = self.keep;
        while absent_is_fine(fs::remove_file(self.older(beyond)))? {
            beyond += 1;
        }
        (self.file, self.size) = append_to(&self.path)?;
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        older(&self.path, number)
    }
}

/// The name of an older file: 1 is the one before the present file.
pub(super) fn older(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// Whether there was such a file.
fn absent_is_fine(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a file as those of a data directory are opened: for the service's user alone, and through no link.
fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let mut file = data_dir::open_with(path, Access::ReadWrite, OFlags::APPEND)?;
    let mut size = file.metadata()?.len();
    if size > 0 && !ends_a_line(&file, size)? {
        // The process that wrote the file was killed within a line.
        file.write_all(b"\n")?;
        size += 1;
    }
    Ok((file, size))
}

fn ends_a_line(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, size - 1)?;
    Ok(last == *b"\n")
}

/// Writes what comes to a sink.
#[derive(Debug)]
pub(super) struct Writer {
    file: RotatedFile,
    sink: Arc<Sink>,
    /// The time of the first write that is not synced.
    unsynced: Option<Instant>,
}

impl Writer {
    pub(super) fn new(file: RotatedFile, sink: Arc<Sink>) -> Self {
        Self {
            file,
            sink,
            unsynced: None,
        }
    }

    /// Writes until the sink is closed and empty, or closed and the file cannot be written.
    pub(super) fn run(mut self) {
        loop {
            let (batch, is_last) = self.sink.wait(AGAIN);
            if !batch.is_empty() && !self.write(&batch) {
                return;
            }
            if is_last || self.unsynced.is_some_and(|since| since.elapsed() >= SYNC) {
                self.sync();
            }
            if is_last {
                return;
            }
        }
    }

    /// Writes a batch, however long that takes; meanwhile the sink keeps what comes, up to its bound. Once the sink is
    /// closed, tries once more and returns whether the batch is written.
    fn write(&mut self, batch: &Batch) -> bool {
        let mut lines = Vec::new();
        for (outcome, count) in [("left_out", batch.left_out), ("lost", batch.lost)] {
            if count > 0 {
                lines.extend(missing(clock::now(), outcome, count));
            }
        }
        lines.extend(batch.entries.iter().flat_map(|entry| entry.line()));
        let mut is_closed = false;
        while let Err(error) = self.file.append(&lines) {
            if !self.sink.is_failing.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    %error, path = %self.file.path.display(),
                    "the audit log cannot be written: calls are still served, up to 8,192 entries wait, and further ones are lost; \
                     free some space, or repair the file or its directory"
                );
            }
            if is_closed {
                return false;
            }
            is_closed = self.sink.pause(AGAIN);
        }
        self.sink.is_written();
        self.unsynced.get_or_insert_with(Instant::now);
        if self.sink.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the audit log can be written again");
        }
        if batch.lost > 0 {
            tracing::error!(
                entries = batch.lost,
                "entries of the audit log are lost: they came while it could not be written"
            );
        }
        true
    }

    fn sync(&mut self) {
        if self.unsynced.take().is_some()
            && let Err(error) = self.file.sync()
        {
            tracing::error!(%error, "the audit log was written, but may not be on disk");
        }
    }
}

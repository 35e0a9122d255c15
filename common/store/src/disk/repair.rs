//! Saves what can be saved of a damaged store into a new data directory. The damaged one is not changed.
//!
//! The result is a *new* store with another id, because something may be lost, and peers that have seen more must
//! notice that. Tokens of the old store are refused, and an engine treats a host with a new store as one that lost
//! its records.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::id::StoreId;
use common::revision::{Revision, Start};
use redb::{Database, StorageBackend as _};
use uuid::Uuid;

use super::backup::{self, Header};
use super::lock::Lock;
use super::manifest::Manifest;
use super::overlay::Overlay;
use super::tables::{self, LastCheckpoint};
use super::verify::quietly;
use super::wal::{self, SegmentHeader};
use super::{Owner, at};
use crate::StoreError;
use crate::data_dir::{self, Access};

/// A record's table and key.
type Place = (String, Vec<u8>);

type Records = BTreeMap<Place, Vec<u8>>;

/// What can and what cannot be saved.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// The owner of the store; empty if it is unknown.
    owner: String,
    /// None if it is unknown.
    store_id: Option<StoreId>,
    records: Records,
    /// The last revision that is saved.
    revision: Revision,
    /// What is saved, a line each.
    pub kept: Vec<String>,
    /// What is lost, a line each.
    pub lost: Vec<String>,
}

/// How tables that redb refuses are opened nevertheless. Nothing is written to the file.
#[derive(Debug, Clone, Copy)]
enum OpenAttempt {
    AsItIs,
    /// A truncated file, filled with zeros up to the length in its header.
    MadeLonger,
    /// The same, marked as closed properly: then redb does not check pages before they are read.
    TakenAsClosed,
}

impl OpenAttempt {
    fn overlay(self, file: File) -> io::Result<Overlay<File>> {
        let mut head = [0; HEAD_BYTES];
        let there = file.read_at(&mut head, 0)?;
        let overlay = Overlay::new(file)?;
        let len = overlay.len()?;
        if there < HEAD_BYTES || matches!(self, Self::AsItIs) {
            return Ok(overlay);
        }
        let full = full_bytes(&head).max(len.next_multiple_of(PAGE_BYTES));
        // A header that is damaged may tell anything.
        if full <= len.saturating_mul(2) {
            overlay.set_len(full)?;
        }
        if matches!(self, Self::TakenAsClosed) {
            overlay.write(FLAGS_AT, &[head[FLAGS_AT as usize] & !NOT_CLOSED])?;
        }
        Ok(overlay)
    }

    fn caveat(self) -> Option<String> {
        matches!(self, Self::TakenAsClosed).then(|| {
            format!(
                "the proof that the records of {} are the last ones: pages of it are damaged, and a record may be an older one of the same key",
                tables::FILE
            )
        })
    }
}

/// redb's file format, version 3: the flags, and the fields with the length of the file.
const HEAD_BYTES: usize = 32;
const FLAGS_AT: u64 = 9;
const NOT_CLOSED: u8 = 2;
const PAGE_BYTES: u64 = 4096;

/// The length of a file according to its header: a page, and the regions.
fn full_bytes(head: &[u8; HEAD_BYTES]) -> u64 {
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        u64::from(u32::from_le_bytes(bytes))
    };
    let (region_head, region, full, last) = (number(16), number(20), number(24), number(28));
    let trailing = if last > 0 { region_head + last } else { 0 };
    let pages = full
        .saturating_mul(region_head + region)
        .saturating_add(1 + trailing);
    pages.saturating_mul(PAGE_BYTES)
}

/// Determines what can be saved of a service's data directory.
///
/// # Errors
/// [`StoreError`] if a service has the directory open, if it belongs to another service, or if it cannot be read at
/// all.
pub fn repair(dir: &Path, owner: Owner) -> Result<Salvaged, StoreError> {
    fs::read_dir(dir).map_err(|error| at(dir, &error))?;
    let _lock = Lock::take_to_read(dir)?;
    let mut saved = Salvaged::default();
    match Manifest::read(dir) {
        Ok(Some(manifest)) => {
            manifest.belongs_to(owner, dir)?;
            saved.store_id = manifest.store_id();
            saved.owner = manifest.owner;
        }
        Ok(None) => saved.lost.push("the manifest, which is missing".to_owned()),
        Err(error) => saved.lost.push(format!("the manifest: {error}")),
    }
    let checkpoint = saved.take_from_tables(dir)?;
    saved.take_from_log(dir, checkpoint)?;
    saved
        .lost
        .push("the history that watchers resume in: they begin anew".to_owned());
    Ok(saved)
}

impl Salvaged {
    /// Every intact record.
    fn take_from_tables(&mut self, dir: &Path) -> Result<Option<LastCheckpoint>, StoreError> {
        let path = dir.join(tables::FILE);
        let file = match data_dir::open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lost
                    .push(format!("all that was in {}, which is missing", tables::FILE));
                return Ok(None);
            }
            Err(error) => return Err(at(&path, &error)),
        };
        let (records, checkpoint) = self.best_of_tables(&path, &file)?;
        self.records = records;
        self.revision = checkpoint.map_or(Revision(0), |checkpoint| checkpoint.revision);
        self.kept.push(format!(
            "{} records of {}, up to revision {}",
            self.records.len(),
            tables::FILE,
            self.revision.0
        ));
        Ok(checkpoint)
    }

    /// The records by the first way of opening the tables that shows any; if none does, the error of the first one.
    fn best_of_tables(
        &mut self,
        path: &Path,
        file: &File,
    ) -> Result<(Records, Option<LastCheckpoint>), StoreError> {
        let mut first_fault = None;
        for way in [
            OpenAttempt::AsItIs,
            OpenAttempt::MadeLonger,
            OpenAttempt::TakenAsClosed,
        ] {
            let file = file.try_clone().map_err(|error| at(path, &error))?;
            let mut records = BTreeMap::new();
            // redb trusts some numbers in a file, and panics if they are wrong.
            let walked = quietly(|| {
                let overlay = way.overlay(file).map_err(|error| at(path, &error))?;
                let database = Database::builder()
                    .create_with_backend(overlay)
                    .map_err(tables::failed)?;
                tables::walk(&database, |table, key, value| {
                    records.insert((table.to_owned(), key.to_vec()), value.to_vec());
                    Ok(())
                })
            });
            let met = match walked {
                Some(Ok(walked)) => {
                    self.lost.extend(walked.faults);
                    self.lost.extend(way.caveat());
                    return Ok((records, walked.checkpoint));
                }
                Some(Err(error)) => error.to_string(),
                None => "it cannot be read on".to_owned(),
            };
            let met = first_fault.get_or_insert(met);
            if !records.is_empty() {
                self.lost
                    .push(format!("what else was in {}: {met}", tables::FILE));
                self.lost.extend(way.caveat());
                return Ok((records, None));
            }
        }
        let met = first_fault.unwrap_or_default();
        self.lost.push(format!("all that was in {}: {met}", tables::FILE));
        Ok((BTreeMap::new(), None))
    }

    /// The revisions in the log after that, up to the first one that is missing.
    fn take_from_log(&mut self, dir: &Path, checkpoint: Option<LastCheckpoint>) -> Result<(), StoreError> {
        let Some(LastCheckpoint {
            store_id: Some(store_id),
            start: Some(start),
            ..
        }) = checkpoint
        else {
            self.lost
                .push("what was in the log only: nothing says what it goes on from".to_owned());
            return Ok(());
        };
        let is_ours = |head: &SegmentHeader| head.store_id == store_id && head.start == start;
        let (commits, lost) = wal::salvage(&wal::read_segments(dir)?, self.revision, is_ours);
        let count = commits.len();
        for commit in commits {
            self.revision = commit.revision;
            for write in commit.writes {
                let place = (write.table.0.to_owned(), write.key);
                match write.value {
                    Some(value) => drop(self.records.insert(place, value)),
                    None => drop(self.records.remove(&place)),
                }
            }
        }
        self.kept.push(format!("{count} revisions of the log"));
        match lost {
            0 => self.lost.push(format!(
                "what was acknowledged after revision {}, if anything was",
                self.revision.0
            )),
            _ => self.lost.push(format!(
                "{lost} batches of the log: what lies between revision {} and them is damaged",
                self.revision.0
            )),
        }
        Ok(())
    }

    /// Whether nothing can be saved: a store without anything would be a service that starts from scratch.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Writes it as a backup.
    ///
    /// # Errors
    /// [`StoreError`] where `out` cannot be written.
    pub(super) fn back_up(&self, owner: Owner, out: &mut dyn Write) -> Result<(), StoreError> {
        let header = Header::new(owner.service, &self.owner, self.store_id, self.revision);
        backup::write(&header, out, |take| {
            let mut records = self.records.iter();
            records.try_for_each(|((table, key), value)| take(table, key, value))
        })
    }

    /// Writes it into a data directory that does not exist yet or is empty.
    ///
    /// # Errors
    /// [`StoreError`] if nothing can be saved, or the directory is not empty or cannot be written.
    pub fn write(&self, into: &Path, owner: Owner) -> Result<(), StoreError> {
        if self.is_empty() {
            return Err(StoreError::Damaged(format!(
                "nothing can be saved, so {} was not made: put all files back from one copy",
                into.display()
            )));
        }
        let records = self
            .records
            .iter()
            .map(|((table, key), value)| Ok((table.as_str(), key.as_slice(), value.as_slice())));
        make_store(into, owner.service, &self.owner, self.revision, records)
    }
}

/// Makes another store of these records, in a data directory that does not exist yet or is empty.
///
/// # Errors
/// [`StoreError`] if the directory is not empty or cannot be written; the first error of `records`.
pub(super) fn make_store(
    into: &Path,
    service: &str,
    owner: &str,
    revision: Revision,
    records: impl Iterator<Item = Result<(impl AsRef<str>, impl AsRef<[u8]>, impl AsRef<[u8]>), StoreError>>,
) -> Result<(), StoreError> {
    data_dir::make(into).map_err(|error| at(into, &error))?;
    let mut entries = fs::read_dir(into).map_err(|error| at(into, &error))?;
    if entries.next().is_some() {
        return Err(StoreError::Unavailable(format!(
            "{} is not empty; name a new directory",
            into.display()
        )));
    }
    let _lock = Lock::take(into)?;
    let (store_id, start) = (StoreId::from_uuid(Uuid::new_v4()), Start(rand::random()));
    tables::rebuild(into, store_id, start, revision, records)?;
    // Last: without it nothing takes the rest for a store.
    let manifest = Manifest::saved(service, owner, store_id, start, revision);
    manifest.write(into).map_err(|error| at(into, &error))
}

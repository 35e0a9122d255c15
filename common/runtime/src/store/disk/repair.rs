//! What can be saved of a damaged store, into a new data directory. The damaged one stays as it is.
//!
//! What is saved is a *new* store: its id is another one, for something may be lost, and whoever remembers more must be able to see that.
//! Tokens of the old store are refused, and an engine treats a host with a new store as one that lost its memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::id::StoreId;
use common::revision::{Revision, Start};
use redb::Database;
use uuid::Uuid;

use super::lock::Lock;
use super::manifest::Manifest;
use super::overlay::Overlay;
use super::tables::{self, Left};
use super::wal::{self, Head};
use super::{Owner, at};
use crate::own::{self, For};
use crate::store::StoreError;

/// A record's table and key.
type Place = (String, Vec<u8>);

/// What can be saved, and what cannot.
#[derive(Debug, Default)]
pub struct Saved {
    /// Whose store it is; empty where nothing says so.
    owner: String,
    records: BTreeMap<Place, Vec<u8>>,
    /// The last revision that is saved.
    revision: Revision,
    /// What is saved, a line each.
    pub kept: Vec<String>,
    /// What is lost, a line each.
    pub lost: Vec<String>,
}

/// Looks for all that can be saved of a service's data directory.
///
/// # Errors
/// [`StoreError`] where a service has the directory open, where it is another service's, or where it cannot be read at all.
pub fn repair(dir: &Path, owner: Owner) -> Result<Saved, StoreError> {
    fs::read_dir(dir).map_err(|error| at(dir, &error))?;
    let _lock = Lock::take_to_read(dir)?;
    let mut saved = Saved::default();
    match Manifest::read(dir) {
        Ok(Some(manifest)) => {
            manifest.belongs_to(owner, dir)?;
            saved.owner = manifest.owner;
        }
        Ok(None) => saved.lost.push("the manifest, which is missing".to_owned()),
        Err(error) => saved.lost.push(format!("the manifest: {error}")),
    }
    let left = saved.take_from_tables(dir)?;
    saved.take_from_log(dir, left)?;
    saved
        .lost
        .push("the history that watchers resume in: they begin anew".to_owned());
    Ok(saved)
}

impl Saved {
    /// Every record that is what was written.
    fn take_from_tables(&mut self, dir: &Path) -> Result<Option<Left>, StoreError> {
        let path = dir.join(tables::FILE);
        let file = match own::open(&path, For::Reading) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lost
                    .push(format!("all that was in {}, which is missing", tables::FILE));
                return Ok(None);
            }
            Err(error) => return Err(at(&path, &error)),
        };
        let mut records = BTreeMap::new();
        let walked = catch_unwind(AssertUnwindSafe(|| {
            let overlay = Overlay::new(file).map_err(|error| at(&path, &error))?;
            let database = Database::builder()
                .create_with_backend(overlay)
                .map_err(|error| StoreError::Damaged(error.to_string()))?;
            tables::walk(&database, |table, key, value| {
                records.insert((table.to_owned(), key.to_vec()), value.to_vec());
                Ok(())
            })
        }));
        let left = match walked {
            Ok(Ok(walked)) => {
                self.lost.extend(walked.faults);
                walked.left
            }
            Ok(Err(error)) => {
                self.lost
                    .push(format!("what else was in {}: {error}", tables::FILE));
                None
            }
            Err(_) => {
                self.lost
                    .push(format!("what else was in {}: it cannot be read on", tables::FILE));
                None
            }
        };
        self.records = records;
        self.revision = left.map_or(Revision(0), |left| left.current);
        self.kept.push(format!(
            "{} records of {}, up to revision {}",
            self.records.len(),
            tables::FILE,
            self.revision.0
        ));
        Ok(left)
    }

    /// What the log has behind that, up to the first revision that is missing.
    fn take_from_log(&mut self, dir: &Path, left: Option<Left>) -> Result<(), StoreError> {
        let Some(Left {
            store_id: Some(store_id),
            start: Some(start),
            ..
        }) = left
        else {
            self.lost
                .push("what was in the log only: nothing says what it goes on from".to_owned());
            return Ok(());
        };
        let is_ours = |head: &Head| head.store_id == store_id && head.start == start;
        let (commits, lost) = wal::saved(&wal::scan(dir)?, self.revision, is_ours);
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

    /// Writes it into a data directory that is not there yet, or is empty.
    ///
    /// # Errors
    /// [`StoreError`] where the directory holds something, or cannot be written.
    pub fn write(&self, into: &Path, owner: Owner) -> Result<(), StoreError> {
        own::dir(into).map_err(|error| at(into, &error))?;
        let mut entries = fs::read_dir(into).map_err(|error| at(into, &error))?;
        if entries.next().is_some() {
            return Err(StoreError::Unavailable(format!(
                "{} is not empty; name a new directory",
                into.display()
            )));
        }
        let _lock = Lock::take(into)?;
        let (store_id, start) = (StoreId::from_uuid(Uuid::new_v4()), Start(rand::random()));
        let records = self
            .records
            .iter()
            .map(|((table, key), value)| (table.as_str(), key.as_slice(), value.as_slice()));
        tables::make_anew(into, store_id, start, self.revision, records)?;
        // Last: without it nothing takes the rest for a store.
        let manifest = Manifest::saved(owner.service, &self.owner, store_id, start, self.revision);
        manifest.write(into).map_err(|error| at(into, &error))
    }
}

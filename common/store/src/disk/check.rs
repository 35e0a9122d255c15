//! Checks everything in a data directory without changing it: for people, while the service is stopped.

use std::path::Path;

use super::consistency::{Recovery, plan_recovery};
use super::lock::Lock;
use super::manifest::Manifest;
use super::tables::{self, LastCheckpoint, Walked};
use super::{Owner, at, preflight, verify};
use crate::StoreError;
use crate::data_dir::{self, Access};

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// What exists, a line each.
    pub facts: Vec<String>,
    /// What is wrong, a line each, with the file or the record. If there is none, the store is intact, and the
    /// service can start on it.
    pub faults: Vec<String>,
    /// The size of the records in the tables, with their keys and everything that is needed to read them.
    pub record_bytes: u64,
    /// The size of the rows of the history.
    pub history_bytes: u64,
}

/// Checks every record, every row of the history, and every frame of the log.
///
/// # Errors
/// [`StoreError`] if a service has the directory open, or if it cannot be read at all.
pub fn check(dir: &Path, owner: Owner) -> Result<Report, StoreError> {
    std::fs::read_dir(dir).map_err(|error| at(dir, &error))?;
    let _lock = Lock::take_to_read(dir)?;
    let mut report = Report::default();
    let manifest = match Manifest::read(dir) {
        Ok(Some(manifest)) => {
            report.facts.push(manifest.to_string());
            report.note(manifest.belongs_to(owner, dir));
            Some(manifest)
        }
        Ok(None) => {
            let what =
                "there is no manifest, which says whose store this is and that its files belong together";
            report.faults.push(what.to_owned());
            None
        }
        Err(error) => {
            report.faults.push(error.to_string());
            None
        }
    };
    let checkpoint = report.look_at_tables(dir);
    if let (Some(manifest), Some(checkpoint)) = (manifest, checkpoint) {
        report.look_at_log(dir, &manifest, &checkpoint);
    }
    for fault in preflight::faults(dir).map(|error| error.to_string()) {
        if !report.faults.contains(&fault) {
            report.faults.push(fault);
        }
    }
    Ok(report)
}

impl Report {
    fn note(&mut self, outcome: Result<(), StoreError>) {
        self.faults.extend(outcome.err().map(|error| error.to_string()));
    }

    fn look_at_tables(&mut self, dir: &Path) -> Option<LastCheckpoint> {
        let path = dir.join(tables::FILE);
        let walked = data_dir::open(&path, Access::Read)
            .map_err(|error| at(&path, &error))
            .and_then(|file| verify::whole(&path, file))
            .and_then(|database| tables::walk(&database, |_, _, _| Ok(())));
        match walked {
            Ok(Walked {
                checkpoint,
                tables,
                records,
                revisions,
                record_bytes,
                history_bytes,
                faults,
            }) => {
                let through = checkpoint.map_or(0, |checkpoint| checkpoint.revision.0);
                self.facts.push(format!(
                    "{}: {records} records in {tables} tables ({record_bytes} bytes), {revisions} revisions of history ({history_bytes} bytes), up to revision {through}",
                    tables::FILE
                ));
                self.faults.extend(faults);
                (self.record_bytes, self.history_bytes) = (record_bytes, history_bytes);
                checkpoint
            }
            Err(error) => {
                self.faults.push(error.to_string());
                None
            }
        }
    }

    fn look_at_log(&mut self, dir: &Path, manifest: &Manifest, checkpoint: &LastCheckpoint) {
        let recovery = match manifest.store_id() {
            Some(store_id) => plan_recovery(dir, manifest, store_id, checkpoint),
            None => Err(StoreError::Damaged("the manifest names no store".to_owned())),
        };
        match recovery {
            Ok(Recovery::NotNeeded) => self.facts.push("the log is not needed".to_owned()),
            Ok(Recovery::Replay(memtable)) => {
                let count = memtable.commits().count();
                self.facts.push(format!("the log: {count} revisions more"));
            }
            Err(error) => self.faults.push(error.to_string()),
        }
    }
}

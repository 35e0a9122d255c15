//! Opening a store: nothing is served before the manifest, the tables, the log and the seal have proved that they
//! belong together and that nothing that was acknowledged is missing. Each step is durable before the next one, and
//! can be repeated.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::id::StoreId;
use common::revision::{Revision, Start};
use uuid::Uuid;

use super::consistency::{Recovery, plan_recovery};
use super::lock::Lock;
use super::manifest::{self, Manifest, State};
use super::preflight;
use super::reserve::Reserve;
use super::seal;
use super::tables::{self, LastCheckpoint, Tables};
use super::throttle::Throttle;
use super::wal::{self, LogId, Wal};
use super::{Options, at, damaged, verify};
use crate::data_dir::{self, Access};
use crate::starts::Starts;
use crate::{Identity, StoreError};

/// A verified store whose new start is recorded.
pub(super) struct Opened {
    pub lock: Lock,
    pub manifest: Manifest,
    pub tables: Tables,
    pub wal: Wal,
    pub reserve: Reserve,
    pub identity: Identity,
    pub starts: Starts,
}

/// Opens or creates the store of a data directory.
///
/// # Errors
/// [`StoreError`], with a message that names the file.
pub(super) fn open(dir: &Path, options: &Options, throttle: &Arc<Throttle>) -> Result<Opened, StoreError> {
    open_by_steps(dir, options, throttle, &mut |_| {})
}

/// As [`open`]; `done` is called after each durable step.
fn open_by_steps(
    dir: &Path,
    options: &Options,
    throttle: &Arc<Throttle>,
    done: &mut dyn FnMut(&str),
) -> Result<Opened, StoreError> {
    data_dir::make(dir).map_err(|error| at(dir, &error))?;
    let lock = Lock::take(dir)?;
    let manifest = match Manifest::read(dir)? {
        Some(manifest) => {
            manifest.belongs_to(options.owner, dir)?;
            preflight::check(dir)?;
            manifest.owned_by(options.owner)
        }
        None => {
            preflight::check(dir)?;
            make(dir, options)?
        }
    };
    done("the manifest is there");
    let store_id = manifest
        .store_id()
        .ok_or_else(|| damaged(&dir.join(manifest::FILE), "names no store"))?;
    let (checkpoint, recovery) = look(dir, &manifest, store_id)?;
    // Only from here on is anything written: a store that is refused is not changed.
    let mut tables = open_tables(dir, options, throttle)?;
    done("the tables are there");
    // The content of the log must get into the tables, even on a full disk.
    let reserve = Reserve::take(dir, options.wal_bytes.saturating_mul(2));
    let manifest = match manifest.renewed() {
        Some(renewed) => {
            write(&renewed, dir, &reserve)?;
            renewed
        }
        None => manifest,
    };
    let current = replay(&manifest, &checkpoint, recovery, &mut tables, &reserve)?;
    done("the log is in the tables");

    let begin = |moving: &Manifest, done: &mut dyn FnMut(&str)| {
        let log = LogId {
            store_id,
            start: moving.next(),
            seed: moving.seed(),
        };
        let starts = tables.begin(store_id, log.start)?;
        done("the tables name the next start");
        let wal = Wal::create(dir, options.wal_bytes, log, current)?;
        done("the log is the next start's");
        Ok::<_, StoreError>((starts, wal))
    };
    let manifest = match manifest.state {
        // An open was interrupted. Its start ends here, with nothing in it: a copy of the directory may have the same
        // start, and two lives must never share one.
        State::Moving => {
            drop(begin(&manifest, done)?);
            let over = manifest
                .moved(wal::segment_bytes(options.wal_bytes))
                .closed(current);
            write(&over, dir, &reserve)?;
            done("the start that was cut off is over");
            over
        }
        _ => manifest,
    };
    let moving = manifest.moving(current, Start(rand::random()), rand::random());
    write(&moving, dir, &reserve)?;
    done("the manifest names the next start");
    let (starts, wal) = begin(&moving, done)?;
    let manifest = moving.moved(wal::segment_bytes(options.wal_bytes));
    // The names of all files are durable with it.
    write(&manifest, dir, &reserve)?;
    done("the next start has begun");
    Ok(Opened {
        lock,
        manifest,
        tables,
        wal,
        reserve,
        identity: Identity {
            store_id,
            start: moving.next(),
        },
        starts,
    })
}

/// Creates a store if there is none, but not if only the manifest is missing.
fn make(dir: &Path, options: &Options) -> Result<Manifest, StoreError> {
    let pieces = [tables::FILE, wal::FILES[0], wal::FILES[1], seal::FILE];
    if let Some(piece) = pieces.into_iter().find(|piece| dir.join(piece).exists()) {
        return Err(StoreError::Damaged(format!(
            "{} is there without a {}: either the manifest is lost, or a build from before the first release made the store; \
             put back all files of one copy, or start with an empty data directory",
            dir.join(piece).display(),
            manifest::FILE
        )));
    }
    let store_id = StoreId::from_uuid(Uuid::new_v4());
    let manifest = Manifest::new(options.owner, store_id, wal::segment_bytes(options.wal_bytes));
    let written = manifest
        .write(dir)
        .or_else(|error| match is_full(&error) && Reserve::give_up_left(dir) {
            true => manifest.write(dir),
            false => Err(error),
        });
    written.map_err(|error| at(&dir.join(manifest::FILE), &error))?;
    Ok(manifest)
}

/// Verifies the parts before anything is written.
fn look(
    dir: &Path,
    manifest: &Manifest,
    store_id: StoreId,
) -> Result<(LastCheckpoint, Recovery), StoreError> {
    let path = dir.join(tables::FILE);
    let looked = match data_dir::open(&path, Access::Read) {
        Ok(file) => verify::whole(&path, file),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path, &error)),
        Err(_) => Err(damaged(&path, "is missing")),
    };
    let checkpoint = match looked {
        Ok(database) => tables::last_checkpoint(&database)?,
        // While a store is being created, its tables are not valid yet.
        Err(_) if manifest.state == State::Making => {
            set_aside_unfinished(&path)?;
            LastCheckpoint::default()
        }
        Err(error) => return Err(error),
    };
    let recovery = plan_recovery(dir, manifest, store_id, &checkpoint)?;
    Ok((checkpoint, recovery))
}

fn open_tables(dir: &Path, options: &Options, throttle: &Arc<Throttle>) -> Result<Tables, StoreError> {
    Tables::open(dir, options.cache_bytes, options.family_of, throttle).or_else(|error| {
        // A repair writes: on a full disk, into the reserved space.
        match Reserve::give_up_left(dir) {
            true => Tables::open(dir, options.cache_bytes, options.family_of, throttle),
            false => Err(error),
        }
    })
}

/// It may belong to somebody all the same, so it is not deleted.
fn set_aside_unfinished(path: &Path) -> Result<(), StoreError> {
    match fs::rename(path, path.with_extension("unfinished")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

/// Replays the log of an earlier start into the tables, and returns their revision, which then includes everything
/// that was ever acknowledged.
fn replay(
    manifest: &Manifest,
    checkpoint: &LastCheckpoint,
    recovery: Recovery,
    tables: &mut Tables,
    reserve: &Reserve,
) -> Result<Revision, StoreError> {
    let Recovery::Replay(memtable) = recovery else {
        return Ok(checkpoint.revision);
    };
    let Some(last) = memtable.last() else {
        return Ok(checkpoint.revision);
    };
    tracing::info!(
        after = checkpoint.revision.0,
        last = last.0,
        "revisions were in the write-ahead log only"
    );
    let start = manifest.start();
    if let Err(error) = tables.apply(&memtable, start, tables::ALL_GENERATIONS, Revision(0)) {
        if !reserve.is_held() {
            return Err(error);
        }
        // On a full disk: into what was held back.
        reserve.give_up();
        tables.reopen()?;
        tables.apply(&memtable, start, tables::ALL_GENERATIONS, Revision(0))?;
    }
    Ok(last)
}

/// Writes the manifest, on a full disk into the reserved space.
fn write(manifest: &Manifest, dir: &Path, reserve: &Reserve) -> Result<(), StoreError> {
    let written = manifest.write(dir).or_else(|error| {
        if !is_full(&error) {
            return Err(error);
        }
        reserve.give_up();
        manifest.write(dir)
    });
    written.map_err(|error| at(&dir.join(manifest::FILE), &error))
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests;

//! How a store is opened: nothing is served before the manifest, the tables, the log and the seal have proved that they belong
//! together and that nothing that was acknowledged is missing. Each step is durable before the next one, and repeatable.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::id::StoreId;
use common::revision::{Revision, Start};
use uuid::Uuid;

use super::lock::Lock;
use super::manifest::{self, Manifest, State};
use super::memtable::Memtable;
use super::preflight;
use super::reserve::Reserve;
use super::seal::{self, Seal};
use super::tables::{self, LastCheckpoint, Tables};
use super::throttle::Throttle;
use super::wal::{self, Expected, LogId, SegmentImage, Wal};
use super::{Options, at, damaged, verify};
use crate::data_dir::{self, Access};
use crate::starts::Starts;
use crate::{Identity, StoreError};

/// A store that has proved itself, and whose new start is recorded.
pub(super) struct Opened {
    pub lock: Lock,
    pub manifest: Manifest,
    pub tables: Tables,
    pub wal: Wal,
    pub reserve: Reserve,
    pub identity: Identity,
    pub starts: Starts,
}

/// Opens or makes the store of a data directory.
///
/// # Errors
/// [`StoreError`], in a sentence that names the file.
pub(super) fn open(dir: &Path, options: &Options, throttle: &Arc<Throttle>) -> Result<Opened, StoreError> {
    open_by_steps(dir, options, throttle, &mut |_| {})
}

/// As [`open`]; `done` is told of each step that is durable.
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
    // Only now is anything written: what is refused stays as it is, byte by byte.
    let mut tables = open_tables(dir, options, throttle)?;
    done("the tables are there");
    // What is in the log only must find its way into the tables, whatever else fills the disk.
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
        // An open that was cut off. Its start ends here, with nothing in it: whoever has a copy of the directory may have it too,
        // and no two lives may be served under one.
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

/// Begins a store where there is none: not where the manifest is all that is missing.
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

/// What the pieces prove, before anything is written.
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
        // While a store is made, its tables are no file of tables yet.
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
        // A repair writes: on a full disk, into what was held back.
        match Reserve::give_up_left(dir) {
            true => Tables::open(dir, options.cache_bytes, options.family_of, throttle),
            false => Err(error),
        }
    })
}

/// It may be somebody's all the same, so it is not deleted.
fn set_aside_unfinished(path: &Path) -> Result<(), StoreError> {
    match fs::rename(path, path.with_extension("unfinished")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

/// Brings what an earlier start left in the log into the tables, and returns the revision that they have then: all that was ever
/// acknowledged.
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

/// What the pieces of a store prove.
pub(super) enum Recovery {
    /// All that was acknowledged is in the tables.
    NotNeeded,
    /// With these revisions, it is all.
    Replay(Memtable),
}

/// Whether tables, log and seal are those of the manifest, and whole. Writes nothing.
///
/// # Errors
/// [`StoreError::Damaged`] unless that is proved.
pub(super) fn plan_recovery(
    dir: &Path,
    manifest: &Manifest,
    store_id: StoreId,
    checkpoint: &LastCheckpoint,
) -> Result<Recovery, StoreError> {
    let path = dir.join(tables::FILE);
    if checkpoint.store_id.is_some_and(|found| found != store_id) {
        return Err(damaged(&path, "belongs to another store"));
    }
    let segments = wal::read_segments(dir)?;
    let log = LogId {
        store_id,
        start: manifest.start(),
        seed: manifest.seed(),
    };
    match manifest.state {
        State::Making => is_new(&path, checkpoint, &segments),
        State::Open => {
            ends_with_start(&path, checkpoint, manifest.start())?;
            with_log(dir, manifest, log, checkpoint, &segments)
        }
        State::Moving => {
            has_exactly(&path, checkpoint, manifest)?;
            segments
                .iter()
                .try_for_each(|segment| is_between(segment, manifest, log))?;
            Ok(Recovery::NotNeeded)
        }
        State::Closed => {
            ends_with_start(&path, checkpoint, manifest.start())?;
            has_exactly(&path, checkpoint, manifest)?;
            segments
                .iter()
                .try_for_each(|segment| match segment.belongs_to(&log) {
                    true => Ok(()),
                    false => Err(damaged(
                        &segment.path,
                        "is of another start or store than the manifest",
                    )),
                })?;
            // As the segments it may be gone, and may not be another's.
            match mark_if_any(dir, manifest)? {
                Some(mark) if mark.revision > checkpoint.revision => {
                    Err(damaged(&path, "is older than the seal"))
                }
                _ => Ok(Recovery::NotNeeded),
            }
        }
    }
}

/// A store that is being made holds nothing yet.
fn is_new(
    tables: &Path,
    checkpoint: &LastCheckpoint,
    segments: &[SegmentImage],
) -> Result<Recovery, StoreError> {
    let late = "is of a later time than the manifest";
    if checkpoint.store_id.is_some() {
        return Err(damaged(tables, late));
    }
    match segments.iter().find(|segment| segment.header.is_some()) {
        Some(segment) => Err(damaged(&segment.path, late)),
        None => Ok(Recovery::NotNeeded),
    }
}

/// What is in the log comes on top of the tables.
fn with_log(
    dir: &Path,
    manifest: &Manifest,
    log: LogId,
    checkpoint: &LastCheckpoint,
    segments: &[SegmentImage],
) -> Result<Recovery, StoreError> {
    let mark = mark(dir, manifest)?;
    if checkpoint.generation == tables::ALL_GENERATIONS {
        return match mark.revision <= checkpoint.revision {
            true => Ok(Recovery::NotNeeded),
            false => Err(damaged(&dir.join(tables::FILE), "is older than the seal")),
        };
    }
    let expected = Expected {
        log,
        segment_bytes: manifest.wal_bytes,
        current: checkpoint.revision,
        generation: checkpoint.generation,
        mark,
    };
    wal::recover(dir, segments, &expected).map(Recovery::Replay)
}

/// Between two starts the log is that of the one before, or the next one's, in which nothing was committed. A segment that is being
/// written over may have no header.
fn is_between(segment: &SegmentImage, manifest: &Manifest, log: LogId) -> Result<(), StoreError> {
    let next = LogId {
        start: manifest.next(),
        ..log
    };
    let fits = segment.header.is_none()
        || segment.belongs_to(&log)
        || (segment.belongs_to(&next) && segment.is_empty(&next));
    match fits {
        true => Ok(()),
        false => Err(damaged(&segment.path, "is of another time than the manifest")),
    }
}

/// The tables end with the start of the manifest.
fn ends_with_start(path: &Path, checkpoint: &LastCheckpoint, start: Start) -> Result<(), StoreError> {
    match checkpoint.start == Some(start) {
        true => Ok(()),
        false => Err(damaged(
            path,
            "is of another start of the service than the manifest says",
        )),
    }
}

/// The tables have what the manifest says, no more and no less.
fn has_exactly(path: &Path, checkpoint: &LastCheckpoint, manifest: &Manifest) -> Result<(), StoreError> {
    if checkpoint.revision == Revision(manifest.revision) {
        return Ok(());
    }
    let what = format!(
        "ends with revision {}, and the manifest with {}",
        checkpoint.revision.0, manifest.revision
    );
    Err(damaged(path, &what))
}

/// How far the log is sealed.
fn mark(dir: &Path, manifest: &Manifest) -> Result<seal::Mark, StoreError> {
    mark_if_any(dir, manifest)?.ok_or_else(|| damaged(&dir.join(seal::FILE), "is missing"))
}

/// The same; none where there is no seal.
fn mark_if_any(dir: &Path, manifest: &Manifest) -> Result<Option<seal::Mark>, StoreError> {
    let path = dir.join(seal::FILE);
    match Seal::read(dir, manifest.seed()) {
        Ok(Some(mark)) => Ok(Some(mark)),
        Ok(None) => Err(damaged(&path, "holds no mark of this start")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(&path, "is cut short")),
        Err(error) => Err(at(&path, &error)),
    }
}

/// Writes the manifest, on a full disk into what was held back.
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

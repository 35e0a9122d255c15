//! How a store is opened: nothing is served before the manifest, the tables, the log and the seal have proved that they belong
//! together and that nothing that was acknowledged is missing. Each step is durable before the next one, and repeatable.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::id::StoreId;
use common::revision::{Revision, Start};
use uuid::Uuid;

use super::layer::Layer;
use super::lock::Lock;
use super::manifest::{self, Manifest, State};
use super::pace::Pace;
use super::reserve::Reserve;
use super::seal::{self, Seal};
use super::tables::{self, Left, Tables};
use super::touched;
use super::wal::{self, Expected, File, Files, Of, Wal};
use super::{Options, at, damaged, verify};
use crate::own::{self, For};
use crate::spans::Spans;
use crate::{Identity, StoreError};

/// A store that has proved itself, and whose new start is recorded.
pub(super) struct Opened {
    pub lock: Lock,
    pub manifest: Manifest,
    pub tables: Tables,
    pub wal: Wal,
    pub reserve: Reserve,
    pub identity: Identity,
    pub spans: Spans,
}

/// Opens or makes the store of a data directory.
///
/// # Errors
/// [`StoreError`], in a sentence that names the file.
pub(super) fn open(dir: &Path, options: &Options, pace: &Arc<Pace>) -> Result<Opened, StoreError> {
    open_by_steps(dir, options, pace, &mut |_| {})
}

/// As [`open`]; `done` is told of each step that is durable.
fn open_by_steps(
    dir: &Path,
    options: &Options,
    pace: &Arc<Pace>,
    done: &mut dyn FnMut(&str),
) -> Result<Opened, StoreError> {
    own::dir(dir).map_err(|error| at(dir, &error))?;
    let lock = Lock::take(dir)?;
    let manifest = match Manifest::read(dir)? {
        Some(manifest) => {
            manifest.belongs_to(options.owner, dir)?;
            touched::look(dir)?;
            manifest.owned_by(options.owner)
        }
        None => {
            touched::look(dir)?;
            make(dir, options)?
        }
    };
    done("the manifest is there");
    let store_id = manifest
        .store_id()
        .ok_or_else(|| damaged(&dir.join(manifest::FILE), "names no store"))?;
    let (left, judged) = look(dir, &manifest, store_id)?;
    // Only now is anything written: what is refused stays as it is, byte by byte.
    let mut tables = open_tables(dir, options, pace)?;
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
    let current = take_in(&manifest, &left, judged, &mut tables, &reserve)?;
    done("the log is in the tables");

    let begin = |moving: &Manifest, done: &mut dyn FnMut(&str)| {
        let of = Of {
            store_id,
            start: moving.next(),
            seed: moving.seed(),
        };
        let spans = tables.begin(store_id, of.start)?;
        done("the tables name the next start");
        let wal = Wal::create(dir, options.wal_bytes, of, current)?;
        done("the log is the next start's");
        Ok::<_, StoreError>((spans, wal))
    };
    let manifest = match manifest.state {
        // An open that was cut off. Its start ends here, with nothing in it: whoever has a copy of the directory may have it too,
        // and no two lives may be served under one.
        State::Moving => {
            drop(begin(&manifest, done)?);
            let over = manifest.moved(wal::file_bytes(options.wal_bytes)).closed(current);
            write(&over, dir, &reserve)?;
            done("the start that was cut off is over");
            over
        }
        _ => manifest,
    };
    let moving = manifest.moving(current, Start(rand::random()), rand::random());
    write(&moving, dir, &reserve)?;
    done("the manifest names the next start");
    let (spans, wal) = begin(&moving, done)?;
    let manifest = moving.moved(wal::file_bytes(options.wal_bytes));
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
        spans,
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
    let manifest = Manifest::new(options.owner, store_id, wal::file_bytes(options.wal_bytes));
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
fn look(dir: &Path, manifest: &Manifest, store_id: StoreId) -> Result<(Left, Judged), StoreError> {
    let path = dir.join(tables::FILE);
    let looked = match own::open(&path, For::Reading) {
        Ok(file) => verify::whole(&path, file),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path, &error)),
        Err(_) => Err(damaged(&path, "is missing")),
    };
    let left = match looked {
        Ok(database) => tables::left_in(&database)?,
        // While a store is made, its tables are no file of tables yet.
        Err(_) if manifest.state == State::Making => {
            set_aside_unfinished(&path)?;
            Left::default()
        }
        Err(error) => return Err(error),
    };
    let judged = judge(dir, manifest, store_id, &left)?;
    Ok((left, judged))
}

fn open_tables(dir: &Path, options: &Options, pace: &Arc<Pace>) -> Result<Tables, StoreError> {
    Tables::open(dir, options.cache_bytes, options.kinship, pace).or_else(|error| {
        // A repair writes: on a full disk, into what was held back.
        match Reserve::give_up_left(dir) {
            true => Tables::open(dir, options.cache_bytes, options.kinship, pace),
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
fn take_in(
    manifest: &Manifest,
    left: &Left,
    judged: Judged,
    tables: &mut Tables,
    reserve: &Reserve,
) -> Result<Revision, StoreError> {
    let Judged::LogCounts(layer) = judged else {
        return Ok(left.current);
    };
    let Some(last) = layer.last() else {
        return Ok(left.current);
    };
    tracing::info!(
        after = left.current.0,
        last = last.0,
        "revisions were in the write-ahead log only"
    );
    let start = manifest.start();
    if let Err(error) = tables.apply(&layer, start, tables::TAKEN_IN, Revision(0)) {
        if !reserve.is_held() {
            return Err(error);
        }
        // On a full disk: into what was held back.
        reserve.give_up();
        tables.reopen()?;
        tables.apply(&layer, start, tables::TAKEN_IN, Revision(0))?;
    }
    Ok(last)
}

/// What the pieces of a store prove.
pub(super) enum Judged {
    /// All that was acknowledged is in the tables.
    TablesAreAll,
    /// With these revisions, it is all.
    LogCounts(Layer),
}

/// Whether tables, log and seal are those of the manifest, and whole. Writes nothing.
///
/// # Errors
/// [`StoreError::Damaged`] unless that is proved.
pub(super) fn judge(
    dir: &Path,
    manifest: &Manifest,
    store_id: StoreId,
    left: &Left,
) -> Result<Judged, StoreError> {
    let path = dir.join(tables::FILE);
    if left.store_id.is_some_and(|found| found != store_id) {
        return Err(damaged(&path, "belongs to another store"));
    }
    let files = wal::scan(dir)?;
    let of = Of {
        store_id,
        start: manifest.start(),
        seed: manifest.seed(),
    };
    match manifest.state {
        State::Making => is_new(&path, left, &files),
        State::Open => {
            is_of(&path, left, manifest.start())?;
            with_log(dir, manifest, of, left, &files)
        }
        State::Moving => {
            has_exactly(&path, left, manifest)?;
            files.iter().try_for_each(|file| is_between(file, manifest, of))?;
            Ok(Judged::TablesAreAll)
        }
        State::Closed => {
            is_of(&path, left, manifest.start())?;
            has_exactly(&path, left, manifest)?;
            files.iter().try_for_each(|file| match file.is_of(&of) {
                true => Ok(()),
                false => Err(damaged(
                    &file.path,
                    "is of another start or store than the manifest",
                )),
            })?;
            // As the files of the log it may be gone, and may not be another's.
            match mark_left(dir, manifest)? {
                Some(mark) if mark.revision > left.current => Err(damaged(&path, "is older than the seal")),
                _ => Ok(Judged::TablesAreAll),
            }
        }
    }
}

/// A store that is being made holds nothing yet.
fn is_new(tables: &Path, left: &Left, files: &Files) -> Result<Judged, StoreError> {
    let late = "is of a later time than the manifest";
    if left.store_id.is_some() {
        return Err(damaged(tables, late));
    }
    match files.iter().find(|file| file.head.is_some()) {
        Some(file) => Err(damaged(&file.path, late)),
        None => Ok(Judged::TablesAreAll),
    }
}

/// What is in the log comes on top of the tables.
fn with_log(
    dir: &Path,
    manifest: &Manifest,
    of: Of,
    left: &Left,
    files: &Files,
) -> Result<Judged, StoreError> {
    let mark = mark(dir, manifest)?;
    if left.generation == tables::TAKEN_IN {
        return match mark.revision <= left.current {
            true => Ok(Judged::TablesAreAll),
            false => Err(damaged(&dir.join(tables::FILE), "is older than the seal")),
        };
    }
    let expected = Expected {
        of,
        file_bytes: manifest.wal_bytes,
        current: left.current,
        generation: left.generation,
        mark,
    };
    wal::left_over(dir, files, &expected).map(Judged::LogCounts)
}

/// Between two starts the log is that of the one before, or the next one's, in which nothing was committed. A file that is being
/// written over may have no head.
fn is_between(file: &File, manifest: &Manifest, of: Of) -> Result<(), StoreError> {
    let next = Of {
        start: manifest.next(),
        ..of
    };
    let fits = file.head.is_none() || file.is_of(&of) || (file.is_of(&next) && file.is_empty(&next));
    match fits {
        true => Ok(()),
        false => Err(damaged(&file.path, "is of another time than the manifest")),
    }
}

/// The tables end with the start of the manifest.
fn is_of(path: &Path, left: &Left, start: Start) -> Result<(), StoreError> {
    match left.start == Some(start) {
        true => Ok(()),
        false => Err(damaged(
            path,
            "is of another start of the service than the manifest says",
        )),
    }
}

/// The tables have what the manifest says, no more and no less.
fn has_exactly(path: &Path, left: &Left, manifest: &Manifest) -> Result<(), StoreError> {
    if left.current == Revision(manifest.revision) {
        return Ok(());
    }
    let what = format!(
        "ends with revision {}, and the manifest with {}",
        left.current.0, manifest.revision
    );
    Err(damaged(path, &what))
}

/// How far the log is sealed.
fn mark(dir: &Path, manifest: &Manifest) -> Result<seal::Mark, StoreError> {
    mark_left(dir, manifest)?.ok_or_else(|| damaged(&dir.join(seal::FILE), "is missing"))
}

/// The same; none where there is no file of it.
fn mark_left(dir: &Path, manifest: &Manifest) -> Result<Option<seal::Mark>, StoreError> {
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

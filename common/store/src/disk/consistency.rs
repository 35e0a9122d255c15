//! Checks whether the parts of a data directory belong together and are intact, and what of the log is missing in the
//! tables.

use std::io;
use std::path::Path;

use common::id::StoreId;
use common::revision::{Revision, Start};

use super::manifest::{Manifest, State};
use super::memtable::Memtable;
use super::seal::{self, Seal};
use super::tables::{self, LastCheckpoint};
use super::wal::{self, Expected, LogId, SegmentImage};
use super::{at, damaged};
use crate::StoreError;

/// What the parts of a store prove.
pub(super) enum Recovery {
    /// Everything that was acknowledged is in the tables.
    NotNeeded,
    /// Together with these revisions it is complete.
    Replay(Memtable),
}

/// Checks that tables, log and seal match the manifest and are intact. Writes nothing.
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

/// A store that is being created has nothing yet.
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

/// The log continues the tables.
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

/// Between two starts the log belongs to the previous one, or to the next one, in which nothing was committed. A
/// segment that is being overwritten may have no header.
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

/// The tables have exactly what the manifest says.
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

/// The mark of the seal.
fn mark(dir: &Path, manifest: &Manifest) -> Result<seal::Mark, StoreError> {
    mark_if_any(dir, manifest)?.ok_or_else(|| damaged(&dir.join(seal::FILE), "is missing"))
}

/// The same; none if there is no seal.
fn mark_if_any(dir: &Path, manifest: &Manifest) -> Result<Option<seal::Mark>, StoreError> {
    let path = dir.join(seal::FILE);
    match Seal::read(dir, manifest.seed()) {
        Ok(Some(mark)) => Ok(Some(mark)),
        Ok(None) => Err(damaged(&path, "holds no mark of this start")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(&path, "is truncated")),
        Err(error) => Err(at(&path, &error)),
    }
}

//! Recovery: what a start left in its log, and whether that is all of it.

use std::io;
use std::path::{Path, PathBuf};

use common::revision::Revision;

use super::segment::{self, BLOCK, Extent};
use super::{FILES, LogId, SegmentHeader, decode_header};
use crate::disk::damaged;
use crate::disk::frame::{self, ALIGNMENT, FrameHeader, Salt};
use crate::disk::memtable::Memtable;
use crate::disk::seal::{self, Mark};
use crate::{Commit, StoreError, Table};

/// A segment as it lies on disk.
#[derive(Debug)]
pub(in crate::disk) struct SegmentImage {
    pub path: PathBuf,
    /// None where it is not whole.
    pub header: Option<SegmentHeader>,
    bytes: u64,
    extents: Vec<Extent>,
}

impl SegmentImage {
    /// Whether it belongs to this start.
    pub(in crate::disk) fn belongs_to(&self, log: &LogId) -> bool {
        self.header
            .is_some_and(|header| header.store_id == log.store_id && header.start == log.start)
    }

    /// Whether nothing was committed into it by this start.
    pub(in crate::disk) fn is_empty(&self, log: &LogId) -> bool {
        let generation = self.header.map_or(0, |header| header.generation);
        let salt = Salt {
            seed: log.seed,
            generation,
        };
        let bytes = self.extents.first().and_then(|extent| extent.bytes.get(BLOCK..));
        generation <= 1 && frame::decode_header(salt, bytes.unwrap_or_default()).is_none()
    }
}

/// Reads those of both segments of a data directory that are there.
///
/// # Errors
/// [`StoreError::Unavailable`] where one cannot be read.
pub(in crate::disk) fn read_segments(dir: &Path) -> Result<Vec<SegmentImage>, StoreError> {
    let mut segments = Vec::new();
    for path in FILES.map(|name| dir.join(name)) {
        let read =
            std::fs::symlink_metadata(&path).and_then(|file| Ok((file.len(), segment::written(&path)?)));
        match read {
            Ok((bytes, extents)) => segments.push(SegmentImage {
                header: extents
                    .first()
                    .filter(|extent| extent.offset == 0)
                    .and_then(|extent| decode_header(&extent.bytes)),
                path,
                bytes,
                extents,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(crate::disk::at(&path, &error)),
        }
    }
    Ok(segments)
}

/// What the log must go on from, and how far it goes at least.
#[derive(Debug, Clone, Copy)]
pub(in crate::disk) struct Expected {
    pub log: LogId,
    /// How long each segment is at least.
    pub segment_bytes: u64,
    /// The last revision in the tables, and the last generation of the log of which all is there.
    pub current: Revision,
    pub generation: u64,
    pub mark: Mark,
}

/// The revisions after those in the tables.
///
/// # Errors
/// [`StoreError::Damaged`], naming the file, unless it is proved that nothing is missing.
pub(in crate::disk) fn recover(
    dir: &Path,
    segments: &[SegmentImage],
    expected: &Expected,
) -> Result<Memtable, StoreError> {
    let segments = validated(dir, segments, expected)?;
    let of_generation = |generation| {
        segments
            .iter()
            .find(|(_, header)| header.generation == generation)
    };
    let Some((first, header)) = of_generation(expected.generation + 1) else {
        return Err(out_of_step(&segments, expected));
    };
    let mut replay = Replay {
        salt: Salt {
            seed: expected.log.seed,
            generation: header.generation,
        },
        last: expected.current,
        memtable: Memtable::default(),
        tables: Tables::default(),
    };
    let mut end = replay.take(first, header)?;
    let mut active = first;
    if let Some((second, header)) = of_generation(expected.generation + 2) {
        if header.base > replay.last {
            let what = format!(
                "ends with revision {}, and the log goes on with {}: what lay between them is damaged",
                replay.last.0,
                header.base.next().0
            );
            return Err(damaged(&first.path, &what));
        }
        replay.salt.generation = header.generation;
        end = replay.take(second, header)?;
        active = second;
    }
    let latest = replay.salt.generation;
    if let Some((ahead, _)) = segments.iter().find(|(_, header)| header.generation > latest) {
        return Err(damaged(
            &ahead.path,
            "is of a later time than the rest of the store",
        ));
    }
    is_sealed(dir, expected.mark, active, end, &replay)?;
    Ok(replay.memtable)
}

/// What can be saved of a log that is damaged: the revisions after `current` up to the first that is missing, and how many whole frames lie
/// behind that. `is_ours` tells whose headers count.
pub(in crate::disk) fn salvage(
    segments: &[SegmentImage],
    current: Revision,
    is_ours: impl Fn(&SegmentHeader) -> bool,
) -> (Vec<Commit>, usize) {
    let mut frames = Vec::new();
    let headed = segments
        .iter()
        .filter_map(|segment| Some((segment, segment.header?)));
    for (segment, header) in headed.filter(|(_, header)| is_ours(header)) {
        let salt = Salt {
            seed: header.seed,
            generation: header.generation,
        };
        for extent in &segment.extents {
            let mut rest = &extent.bytes[..];
            while let Some(at) = frame::search(rest) {
                rest = &rest[at..];
                let header = frame::decode_header(salt, rest);
                frames.extend(header.map(|header| (header, rest)));
                rest = &rest[header.map_or(ALIGNMENT, |header| header.bytes).min(rest.len())..];
            }
        }
    }
    frames.retain(|(header, _)| header.last > current);
    frames.sort_by_key(|(header, _)| header.first);
    let (mut commits, mut last, mut lost) = (Vec::new(), current, 0);
    let mut tables = Tables::default();
    for (header, bytes) in frames {
        let decoded = match header.first == last.next() && lost == 0 {
            true => frame::decode(&header, bytes, |name| tables.named(name)).ok(),
            false => None,
        };
        match decoded {
            Some(decoded) => {
                commits.extend(decoded);
                last = header.last;
            }
            None => lost += 1,
        }
    }
    (commits, lost)
}

/// Both segments, each with its header: there, long enough, and of this start.
fn validated<'a>(
    dir: &Path,
    segments: &'a [SegmentImage],
    expected: &Expected,
) -> Result<Vec<(&'a SegmentImage, SegmentHeader)>, StoreError> {
    let mut found = Vec::new();
    for path in FILES.map(|name| dir.join(name)) {
        let Some(segment) = segments.iter().find(|segment| segment.path == path) else {
            return Err(damaged(&path, "is missing: what was committed last is in it"));
        };
        if segment.bytes < expected.segment_bytes {
            let what = format!(
                "is truncated: it has {} bytes of {}",
                segment.bytes, expected.segment_bytes
            );
            return Err(damaged(&path, &what));
        }
        let Some(header) = segment.header else {
            return Err(damaged(&path, "does not begin as it was written"));
        };
        if header.store_id != expected.log.store_id {
            return Err(damaged(&path, "belongs to another store"));
        }
        if header.start != expected.log.start {
            return Err(damaged(
                &path,
                "is of another start of the service than the rest of the store",
            ));
        }
        found.push((segment, header));
    }
    Ok(found)
}

/// The generation that follows what the tables have is not there.
fn out_of_step(segments: &[(&SegmentImage, SegmentHeader)], expected: &Expected) -> StoreError {
    let latest = segments.iter().max_by_key(|(_, header)| header.generation);
    match latest {
        Some((segment, header)) if header.generation <= expected.generation => {
            damaged(&segment.path, "is older than the tables in store.redb")
        }
        Some((segment, _)) => {
            let tables = segment.path.with_file_name(crate::disk::tables::FILE);
            damaged(&tables, "is older than the write-ahead log")
        }
        None => StoreError::Damaged("there is no write-ahead log".to_owned()),
    }
}

/// What was acknowledged last is there.
fn is_sealed(
    dir: &Path,
    mark: Mark,
    active: &SegmentImage,
    end: u64,
    replay: &Replay,
) -> Result<(), StoreError> {
    if mark.generation > replay.salt.generation {
        return Err(damaged(&active.path, "is older than the seal in store.seal"));
    }
    if mark.revision > replay.last || (mark.generation == replay.salt.generation && mark.offset > end) {
        let what = format!(
            "ends with revision {}, but revision {} was acknowledged: what lies behind is damaged",
            replay.last.0, mark.revision.0
        );
        return Err(damaged(&active.path, &what));
    }
    if mark.generation == 0 {
        return Err(damaged(&dir.join(seal::FILE), "holds no mark"));
    }
    Ok(())
}

/// The log, read so far.
struct Replay {
    salt: Salt,
    last: Revision,
    memtable: Memtable,
    tables: Tables,
}

impl Replay {
    /// Adds the frames of a segment; returns where they end.
    fn take(&mut self, segment: &SegmentImage, header: &SegmentHeader) -> Result<u64, StoreError> {
        if header.base != self.last {
            let what = format!(
                "goes on from revision {}, and what lies before it ends with {}",
                header.base.0, self.last.0
            );
            return Err(damaged(&segment.path, &what));
        }
        let bytes = segment.extents.first().map_or(&[][..], |extent| &extent.bytes);
        let mut at = BLOCK;
        while let Some(frame) = self.next(bytes.get(at..).unwrap_or_default()) {
            let decoded = frame::decode(&frame, &bytes[at..], |name| self.tables.named(name));
            self.memtable.insert(decoded?.into());
            self.last = frame.last;
            at += frame.bytes;
        }
        match self.is_followed(segment, at) {
            true => {
                let what = format!(
                    "is damaged behind revision {}: later frames are whole",
                    self.last.0
                );
                Err(damaged(&segment.path, &what))
            }
            false => Ok(at as u64),
        }
    }

    /// The frame that goes on with the next revision.
    fn next(&self, bytes: &[u8]) -> Option<FrameHeader> {
        frame::decode_header(self.salt, bytes).filter(|header| header.first == self.last.next())
    }

    /// Whether there is a whole frame of this generation behind an offset: then what lies before it is damaged.
    fn is_followed(&self, segment: &SegmentImage, end: usize) -> bool {
        segment.extents.iter().any(|extent| {
            let from = end.saturating_sub(usize::try_from(extent.offset).unwrap_or(usize::MAX));
            let mut rest = extent.bytes.get(from..).unwrap_or_default();
            while let Some(at) = frame::search(rest) {
                if frame::decode_header(self.salt, &rest[at..]).is_some() {
                    return true;
                }
                rest = &rest[at + ALIGNMENT..];
            }
            false
        })
    }
}

/// The names of tables as they are in a program: few, and for as long as it lives.
#[derive(Default)]
struct Tables(Vec<Table>);

impl Tables {
    fn named(&mut self, name: &str) -> Table {
        if let Some(known) = self.0.iter().find(|known| known.0 == name) {
            return *known;
        }
        let table = Table(Box::leak(name.into()));
        self.0.push(table);
        table
    }
}

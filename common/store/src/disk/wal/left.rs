//! What a start left in its log, and whether that is all of it.

use std::io;
use std::path::{Path, PathBuf};

use common::revision::Revision;

use super::segment::{self, BLOCK, Piece};
use super::{FILES, Head, Of, read_head};
use crate::disk::damaged;
use crate::disk::frame::{self, ALIGNMENT, Header, Salt};
use crate::disk::layer::Layer;
use crate::disk::seal::{self, Mark};
use crate::{Commit, StoreError, Table};

/// A file of the log, as it lies on disk.
#[derive(Debug)]
pub(in crate::disk) struct File {
    pub path: PathBuf,
    /// None where it is not whole.
    pub head: Option<Head>,
    bytes: u64,
    pieces: Vec<Piece>,
}

impl File {
    /// Whether it belongs to this start.
    pub(in crate::disk) fn is_of(&self, of: &Of) -> bool {
        self.head
            .is_some_and(|head| head.store_id == of.store_id && head.start == of.start)
    }

    /// Whether nothing was committed into it by this start.
    pub(in crate::disk) fn is_empty(&self, of: &Of) -> bool {
        let generation = self.head.map_or(0, |head| head.generation);
        let salt = Salt {
            seed: of.seed,
            generation,
        };
        let bytes = self.pieces.first().and_then(|piece| piece.bytes.get(BLOCK..));
        generation <= 1 && frame::header(salt, bytes.unwrap_or_default()).is_none()
    }
}

/// Both, as far as they are there.
pub(in crate::disk) type Files = Vec<File>;

/// Reads the files of a data directory that are there.
///
/// # Errors
/// [`StoreError::Unavailable`] where one cannot be read.
pub(in crate::disk) fn scan(dir: &Path) -> Result<Files, StoreError> {
    let mut files = Files::new();
    for path in FILES.map(|name| dir.join(name)) {
        let read =
            std::fs::symlink_metadata(&path).and_then(|file| Ok((file.len(), segment::written(&path)?)));
        match read {
            Ok((bytes, pieces)) => files.push(File {
                head: pieces
                    .first()
                    .filter(|piece| piece.offset == 0)
                    .and_then(|piece| read_head(&piece.bytes)),
                path,
                bytes,
                pieces,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(crate::disk::at(&path, &error)),
        }
    }
    Ok(files)
}

/// What the log must go on from, and how far it goes at least.
#[derive(Debug, Clone, Copy)]
pub(in crate::disk) struct Expected {
    pub of: Of,
    /// How long each file is at least.
    pub file_bytes: u64,
    /// The last revision in the tables, and the last round of the log of which all is there.
    pub current: Revision,
    pub generation: u64,
    pub mark: Mark,
}

/// The revisions after those in the tables.
///
/// # Errors
/// [`StoreError::Damaged`], naming the file, unless it is proved that nothing is missing.
pub(in crate::disk) fn left_over(
    dir: &Path,
    files: &Files,
    expected: &Expected,
) -> Result<Layer, StoreError> {
    let files = whole(dir, files, expected)?;
    let of_round = |generation| files.iter().find(|(_, head)| head.generation == generation);
    let Some((first, head)) = of_round(expected.generation + 1) else {
        return Err(out_of_step(&files, expected));
    };
    let mut run = Run {
        salt: Salt {
            seed: expected.of.seed,
            generation: head.generation,
        },
        last: expected.current,
        layer: Layer::default(),
        tables: Tables::default(),
    };
    let mut end = run.take(first, head)?;
    let mut active = first;
    if let Some((second, head)) = of_round(expected.generation + 2) {
        if head.base > run.last {
            let what = format!(
                "ends with revision {}, and the log goes on with {}: what lay between them is damaged",
                run.last.0,
                head.base.next().0
            );
            return Err(damaged(&first.path, &what));
        }
        run.salt.generation = head.generation;
        end = run.take(second, head)?;
        active = second;
    }
    let latest = run.salt.generation;
    if let Some((ahead, _)) = files.iter().find(|(_, head)| head.generation > latest) {
        return Err(damaged(
            &ahead.path,
            "is of a later time than the rest of the store",
        ));
    }
    is_sealed(dir, expected.mark, active, end, &run)?;
    Ok(run.layer)
}

/// What can be saved of a log that is damaged: the revisions after `current` up to the first that is missing, and how many whole frames lie
/// behind that. `is_ours` tells whose heads count.
pub(in crate::disk) fn saved(
    files: &Files,
    current: Revision,
    is_ours: impl Fn(&Head) -> bool,
) -> (Vec<Commit>, usize) {
    let mut frames = Vec::new();
    let heads = files.iter().filter_map(|file| Some((file, file.head?)));
    for (file, head) in heads.filter(|(_, head)| is_ours(head)) {
        let salt = Salt {
            seed: head.seed,
            generation: head.generation,
        };
        for piece in &file.pieces {
            let mut rest = &piece.bytes[..];
            while let Some(at) = frame::search(rest) {
                rest = &rest[at..];
                let header = frame::header(salt, rest);
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

/// Both files, each with its head: there, long enough, and of this start.
fn whole<'a>(dir: &Path, files: &'a Files, expected: &Expected) -> Result<Vec<(&'a File, Head)>, StoreError> {
    let mut found = Vec::new();
    for path in FILES.map(|name| dir.join(name)) {
        let Some(file) = files.iter().find(|file| file.path == path) else {
            return Err(damaged(&path, "is missing: what was committed last is in it"));
        };
        if file.bytes < expected.file_bytes {
            let what = format!(
                "is cut short: it has {} bytes of {}",
                file.bytes, expected.file_bytes
            );
            return Err(damaged(&path, &what));
        }
        let Some(head) = file.head else {
            return Err(damaged(&path, "does not begin as it was written"));
        };
        if head.store_id != expected.of.store_id {
            return Err(damaged(&path, "belongs to another store"));
        }
        if head.start != expected.of.start {
            return Err(damaged(
                &path,
                "is of another start of the service than the rest of the store",
            ));
        }
        found.push((file, head));
    }
    Ok(found)
}

/// The round that follows what the tables have is not there.
fn out_of_step(files: &[(&File, Head)], expected: &Expected) -> StoreError {
    let latest = files.iter().max_by_key(|(_, head)| head.generation);
    match latest {
        Some((file, head)) if head.generation <= expected.generation => {
            damaged(&file.path, "is older than the tables in store.redb")
        }
        Some((file, _)) => {
            let tables = file.path.with_file_name(crate::disk::tables::FILE);
            damaged(&tables, "is older than the write-ahead log")
        }
        None => StoreError::Damaged("there is no write-ahead log".to_owned()),
    }
}

/// What was acknowledged last is there.
fn is_sealed(dir: &Path, mark: Mark, active: &File, end: u64, run: &Run) -> Result<(), StoreError> {
    if mark.generation > run.salt.generation {
        return Err(damaged(&active.path, "is older than the seal in store.seal"));
    }
    if mark.revision > run.last || (mark.generation == run.salt.generation && mark.offset > end) {
        let what = format!(
            "ends with revision {}, but revision {} was acknowledged: what lies behind is damaged",
            run.last.0, mark.revision.0
        );
        return Err(damaged(&active.path, &what));
    }
    if mark.generation == 0 {
        return Err(damaged(&dir.join(seal::FILE), "holds no mark"));
    }
    Ok(())
}

/// The log so far.
struct Run {
    salt: Salt,
    last: Revision,
    layer: Layer,
    tables: Tables,
}

impl Run {
    /// Adds the frames of a file; returns where they end.
    fn take(&mut self, file: &File, head: &Head) -> Result<u64, StoreError> {
        if head.base != self.last {
            let what = format!(
                "goes on from revision {}, and what lies before it ends with {}",
                head.base.0, self.last.0
            );
            return Err(damaged(&file.path, &what));
        }
        let bytes = file.pieces.first().map_or(&[][..], |piece| &piece.bytes);
        let mut at = BLOCK;
        while let Some(header) = self.next(bytes.get(at..).unwrap_or_default()) {
            let decoded = frame::decode(&header, &bytes[at..], |name| self.tables.named(name));
            self.layer.push(decoded?.into());
            self.last = header.last;
            at += header.bytes;
        }
        match self.is_followed(file, at) {
            true => {
                let what = format!(
                    "is damaged behind revision {}: later frames are whole",
                    self.last.0
                );
                Err(damaged(&file.path, &what))
            }
            false => Ok(at as u64),
        }
    }

    /// The frame that goes on with the next revision.
    fn next(&self, bytes: &[u8]) -> Option<Header> {
        frame::header(self.salt, bytes).filter(|header| header.first == self.last.next())
    }

    /// Whether there is a whole frame of this round behind an offset: then what lies before it is damaged.
    fn is_followed(&self, file: &File, end: usize) -> bool {
        file.pieces.iter().any(|piece| {
            let from = end.saturating_sub(usize::try_from(piece.offset).unwrap_or(usize::MAX));
            let mut rest = piece.bytes.get(from..).unwrap_or_default();
            while let Some(at) = frame::search(rest) {
                if frame::header(self.salt, &rest[at..]).is_some() {
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

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use common::time::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::store::Write;

const SEED: Seed = *b"the seed";
const CAPACITY: u64 = 4 << 10;
const NOTES: Table = Table("notes");

/// One revision that puts its number, `size` bytes of it.
fn commit(revision: u64, size: usize) -> Vec<Commit> {
    vec![Commit {
        revision: Revision(revision),
        time: Timestamp(7),
        history: vec![revision as u8; size],
        writes: vec![Write {
            table: NOTES,
            key: b"k".to_vec(),
            value: Some(revision.to_be_bytes().to_vec()),
        }],
    }]
}

/// A log of one file, where each frame ends.
fn written(dir: &TempDir, revisions: std::ops::RangeInclusive<u64>) -> Vec<usize> {
    let mut wal = Wal::open(dir.path(), CAPACITY, SEED).unwrap();
    let ends = revisions.map(|revision| {
        assert!(wal.prepare(&commit(revision, 11 * (revision as usize % 5))));
        wal.append().unwrap();
        usize::try_from(wal.segments[wal.turn].offset()).unwrap()
    });
    ends.collect()
}

fn first_file(dir: &TempDir) -> PathBuf {
    dir.path().join(FILES[0])
}

/// The last revision that is left; the layer must hold what was committed.
fn last(dir: &TempDir, current: u64) -> Result<Option<u64>, String> {
    let layer = left_over(dir.path(), SEED, Revision(current)).map_err(|error| error.to_string())?;
    for (commit, revision) in layer.commits().zip(current + 1..) {
        assert_eq!(commit.revision, Revision(revision));
        assert_eq!(commit.history, vec![revision as u8; 11 * (revision as usize % 5)]);
    }
    let last = layer.last().map(|revision| revision.0);
    let record = layer.get(NOTES, b"k", Revision(u64::MAX)).flatten();
    assert_eq!(
        record,
        last.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)
    );
    Ok(last)
}

#[test]
fn cut_at_any_byte_it_holds_every_frame_before_the_cut() {
    let dir = TempDir::new().unwrap();
    let ends = written(&dir, 1..=5);
    let whole = fs::read(first_file(&dir)).unwrap();
    for cut in 0..=*ends.last().unwrap() {
        // A power cut leaves the rest as it was before: zeros, or what a round before left.
        for rest in [0, 0xa5] {
            let mut torn = whole.clone();
            torn[cut..].fill(rest);
            fs::write(first_file(&dir), torn).unwrap();
            let frames = ends.iter().filter(|end| **end <= cut).count() as u64;
            // The zeros at the end of a frame may be missing, or be no zeros.
            let found = last(&dir, 0).unwrap().unwrap_or(0);
            let padding = ends
                .iter()
                .any(|end| (1..ALIGNMENT).contains(&(end.saturating_sub(cut))));
            assert!(
                found == frames || (padding && found == frames + 1),
                "{found} at {cut}"
            );
        }
        fs::write(first_file(&dir), &whole[..cut]).unwrap();
        assert!(last(&dir, 0).unwrap().unwrap_or(0) <= ends.len() as u64);
    }
}

#[test]
fn a_changed_byte_in_any_frame_but_the_last_is_said_to_be_damage() {
    let dir = TempDir::new().unwrap();
    let ends = written(&dir, 1..=4);
    let whole = fs::read(first_file(&dir)).unwrap();
    let before_last = ends[ends.len() - 2];
    for place in 0..*ends.last().unwrap() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x40;
        fs::write(first_file(&dir), damaged).unwrap();
        match last(&dir, 0) {
            // Nobody can tell it from a frame that was being written.
            Ok(found) if place >= before_last => assert!(matches!(found, Some(3 | 4)), "{found:?}"),
            // Only the zeros behind a frame.
            Ok(found) => assert!(found == Some(4) && whole[place] == 0, "{found:?} at {place}"),
            Err(why) => assert!(why.contains("is missing in the write-ahead log"), "{why}"),
        }
    }
}

#[test]
fn what_is_in_the_tables_already_is_passed_over() {
    let dir = TempDir::new().unwrap();
    written(&dir, 1..=6);
    assert_eq!(last(&dir, 4), Ok(Some(6)));
    assert_eq!(last(&dir, 6), Ok(None));
    assert_eq!(last(&dir, 9), Ok(None));
}

#[test]
fn the_two_files_are_one_log_and_rounds_before_do_not_count() {
    let dir = TempDir::new().unwrap();
    let mut wal = Wal::open(dir.path(), CAPACITY, SEED).unwrap();
    let mut revision = 0;
    for round in 0..5 {
        // Fewer and fewer: what a round before left stays behind them.
        for _ in round..6 {
            revision += 1;
            wal.prepare(&commit(revision, 11 * (revision as usize % 5)));
            wal.append().unwrap();
        }
        let in_tables = revision - (6 - round);
        assert_eq!(last(&dir, in_tables), Ok(Some(revision)), "this file");
        if round > 0 {
            let before = in_tables - (7 - round);
            assert_eq!(last(&dir, before), Ok(Some(revision)), "and the other one");
        }
        wal.switch();
    }
}

#[test]
fn another_starts_frames_are_none() {
    let dir = TempDir::new().unwrap();
    written(&dir, 1..=3);
    let layer = left_over(dir.path(), *b"no such!", Revision(0)).unwrap();
    assert_eq!(layer.last(), None);
}

#[test]
fn a_missing_file_is_damage() {
    let dir = TempDir::new().unwrap();
    written(&dir, 1..=3);
    fs::remove_file(dir.path().join(FILES[1])).unwrap();
    let why = last(&dir, 0).unwrap_err();
    assert!(why.contains(FILES[1]) && why.contains("missing"), "{why}");
}

#[test]
fn a_frame_that_is_taken_back_was_never_there() {
    let dir = TempDir::new().unwrap();
    let mut wal = Wal::open(dir.path(), CAPACITY, SEED).unwrap();
    wal.prepare(&commit(1, 11));
    wal.append().unwrap();
    wal.prepare(&commit(2, 22));
    // As if it were on disk, and the write had failed.
    let file = File::options().write(true).open(first_file(&dir)).unwrap();
    file.write_all_at(&wal.frame, wal.segments[0].offset()).unwrap();
    assert_eq!(last(&dir, 0), Ok(Some(2)));
    wal.take_back().unwrap();
    assert_eq!(last(&dir, 0), Ok(Some(1)));
    wal.prepare(&commit(2, 22));
    wal.append().unwrap();
    assert_eq!(last(&dir, 0), Ok(Some(2)));
}

#[test]
fn a_batch_that_is_larger_than_a_file_gets_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let mut wal = Wal::open(dir.path(), CAPACITY, SEED).unwrap();
    wal.prepare(&commit(1, 11));
    wal.append().unwrap();
    let large = 2 * usize::try_from(CAPACITY).unwrap();
    assert!(!wal.prepare(&commit(2, large)));
    wal.switch();
    assert!(wal.prepare(&commit(2, large)));
    wal.append().unwrap();
    let layer = left_over(dir.path(), SEED, Revision(0)).unwrap();
    assert_eq!(layer.last(), Some(Revision(2)));
}

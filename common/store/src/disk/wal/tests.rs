use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use common::time::Timestamp;
use tempfile::TempDir;
use uuid::Uuid;

use super::segment::BLOCK;
use super::*;
use crate::disk::frame::ALIGNMENT;
use crate::{Table, Write};

const SEED: Seed = *b"the seed";
const CAPACITY: u64 = 4 << 10;
const NOTES: Table = Table("notes");

fn log() -> LogId {
    LogId {
        store_id: StoreId::from_uuid(Uuid::from_u128(7)),
        start: Start(9),
        seed: SEED,
    }
}

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

fn create(dir: &TempDir) -> Wal {
    Wal::create(dir.path(), CAPACITY, log(), Revision(0)).unwrap()
}

/// Appends a revision; where its frame ends.
fn append(wal: &mut Wal, revision: u64) -> usize {
    assert!(wal.prepare(&commit(revision, 11 * (revision as usize % 5))));
    wal.append().unwrap();
    wal.seal(Revision(revision));
    usize::try_from(wal.segments[wal.turn].offset()).unwrap()
}

/// A log of one file, where each frame ends.
fn written(dir: &TempDir, revisions: std::ops::RangeInclusive<u64>) -> Vec<usize> {
    let mut wal = create(dir);
    revisions.map(|revision| append(&mut wal, revision)).collect()
}

fn first_file(dir: &TempDir) -> PathBuf {
    dir.path().join(FILES[0])
}

fn mark(dir: &TempDir) -> Mark {
    Seal::read(dir.path(), SEED).unwrap().unwrap_or_default()
}

/// The last revision that is left behind those that the tables have; the memtable must hold what was committed.
fn last(dir: &TempDir, current: u64, generation: u64, mark: Mark) -> Result<Option<u64>, String> {
    let expected = Expected {
        log: log(),
        segment_bytes: segment_bytes(CAPACITY),
        current: Revision(current),
        generation,
        mark,
    };
    let files = read_segments(dir.path()).unwrap();
    let memtable = recover(dir.path(), &files, &expected).map_err(|error| error.to_string())?;
    for (commit, revision) in memtable.commits().zip(current + 1..) {
        assert_eq!(commit.revision, Revision(revision));
        assert_eq!(commit.history, vec![revision as u8; 11 * (revision as usize % 5)]);
    }
    let last = memtable.last().map(|revision| revision.0);
    let record = memtable.get(NOTES, b"k", Revision(u64::MAX)).flatten();
    assert_eq!(
        record,
        last.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)
    );
    Ok(last)
}

/// As a crash leaves it while a frame is written: the mark is that of the frame before.
#[test]
fn cut_at_any_byte_while_a_frame_is_written_it_holds_every_frame_before() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(&dir);
    let mut begin = BLOCK;
    for revision in 1..=5 {
        let before = mark(&dir);
        let end = append(&mut wal, revision);
        let whole = fs::read(first_file(&dir)).unwrap();
        for cut in begin..=end {
            // A power cut leaves the rest as it was before: zeros, or what a round before left.
            for rest in [0, 0xa5] {
                let mut torn = whole.clone();
                torn[cut..].fill(rest);
                fs::write(first_file(&dir), torn).unwrap();
                let found = last(&dir, 0, 0, before).unwrap().unwrap_or(0);
                // The zeros at the end of a frame may be missing, or be no zeros.
                let is_padding = end - cut < ALIGNMENT;
                assert!(
                    found == revision - 1 || (is_padding && found == revision),
                    "{found} at {cut} of {end}"
                );
            }
        }
        fs::write(first_file(&dir), whole).unwrap();
        begin = end;
    }
}

#[test]
fn cut_or_changed_at_any_byte_before_its_seal_it_is_damaged() {
    let dir = TempDir::new().unwrap();
    let ends = written(&dir, 1..=4);
    let whole = fs::read(first_file(&dir)).unwrap();
    let end = *ends.last().unwrap();
    let is_padding = |place: usize| {
        whole[place] == 0
            && ends
                .iter()
                .any(|end| (1..ALIGNMENT).contains(&(end.saturating_sub(place))))
    };
    let check = |bytes: &[u8], place: usize| {
        fs::write(first_file(&dir), bytes).unwrap();
        match last(&dir, 0, 0, mark(&dir)) {
            // Only the zeros behind a frame, or behind the head, which nobody reads.
            Ok(found) => assert!(
                found == Some(4) && (is_padding(place) || (HEADER..BLOCK).contains(&place)),
                "{found:?} at {place}"
            ),
            Err(why) => assert!(why.contains("store.wal-0"), "{why}"),
        }
    };
    // Behind the head are zeros only, up to the first frame.
    for place in (0..HEADER).chain((HEADER..BLOCK).step_by(101)).chain(BLOCK..end) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x40;
        check(&damaged, place);
        damaged.copy_from_slice(&whole);
        damaged[place..].fill(0);
        check(&damaged, place);
        fs::write(first_file(&dir), &whole[..place]).unwrap();
        assert!(last(&dir, 0, 0, mark(&dir)).unwrap_err().contains("truncated"));
    }
}

#[test]
fn the_two_files_are_one_log_and_rounds_before_do_not_count() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(&dir);
    let (mut revision, mut before) = (0, 0);
    for round in 0..5 {
        let base = revision;
        // Fewer and fewer: what a round before left stays behind them.
        for _ in round..6 {
            revision += 1;
            append(&mut wal, revision);
        }
        let generation = wal.generation();
        assert_eq!(
            last(&dir, base, generation - 1, mark(&dir)),
            Ok(Some(revision)),
            "this file"
        );
        if round > 0 {
            assert_eq!(
                last(&dir, before, generation - 2, mark(&dir)),
                Ok(Some(revision)),
                "and the other one"
            );
        }
        if round > 1 {
            let older = last(&dir, before - 1, generation - 3, mark(&dir)).unwrap_err();
            assert!(older.contains("store.redb is older"), "{older}");
        }
        let newer = last(&dir, revision, generation, mark(&dir)).unwrap_err();
        assert!(newer.contains("is older than the tables"), "{newer}");
        before = base;
        wal.rotate(Revision(revision)).unwrap();
    }
}

/// What there is at a moment: the files, what the tables have, and up to which revision each of these four knows that it was acknowledged.
struct Moment {
    files: [Vec<u8>; 3],
    tables: (u64, u64),
    knows: [u64; 4],
}

/// A log over some rounds, one of which finds the tables two rounds behind.
fn moments(dir: &TempDir) -> Vec<Moment> {
    let mut wal = create(dir);
    let (mut moments, mut tables, mut revision, mut knows) = (Vec::new(), (0, 0), 0, [0; 4]);
    let mut look = |tables: (u64, u64), knows: [u64; 4]| {
        let files = PIECES.map(|name| fs::read(dir.path().join(name)).unwrap());
        moments.push(Moment { files, tables, knows });
    };
    for _ in 0..4 {
        for _ in 0..2 {
            look(tables, knows);
            revision += 1;
            append(&mut wal, revision);
            (knows[wal.turn], knows[2]) = (revision, revision);
        }
        look(tables, knows);
        // What the other file holds must be in the tables before it is written over.
        if wal.generation() > 1 {
            (tables, knows[3]) = ((revision - 2, wal.generation() - 1), revision - 2);
            look(tables, knows);
        }
        wal.rotate(Revision(revision)).unwrap();
        knows[wal.turn] = revision;
    }
    moments
}

const PIECES: [&str; 3] = [FILES[0], FILES[1], super::super::seal::FILE];

#[test]
fn pieces_of_two_moments_are_refused_or_hold_all_that_one_of_them_knows() {
    let dir = TempDir::new().unwrap();
    let moments = moments(&dir);
    let (mut refused, mut taken) = (0, 0);
    for (earlier, later) in (0..moments.len()).flat_map(|one| (one..moments.len()).map(move |two| (one, two)))
    {
        for mixture in 0..16_u32 {
            let of = |piece: usize| &moments[if mixture >> piece & 1 == 1 { later } else { earlier }];
            for (piece, name) in PIECES.into_iter().enumerate() {
                fs::write(dir.path().join(name), &of(piece).files[piece]).unwrap();
            }
            let (current, generation) = of(3).tables;
            let known = (0..4).map(|piece| of(piece).knows[piece]).max().unwrap();
            match last(&dir, current, generation, mark(&dir)) {
                Ok(found) => {
                    let found = found.unwrap_or(current);
                    assert!(
                        found >= known,
                        "{found} of {known}: {earlier}, {later}, {mixture:04b}"
                    );
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && taken > 100, "{refused} refused, {taken} taken");
}

#[test]
fn files_of_another_start_or_store_are_refused() {
    let dir = TempDir::new().unwrap();
    written(&dir, 1..=3);
    for (of, why) in [
        (
            LogId {
                start: Start(8),
                ..log()
            },
            "another start",
        ),
        (
            LogId {
                store_id: StoreId::from_uuid(Uuid::from_u128(8)),
                ..log()
            },
            "another store",
        ),
    ] {
        for name in FILES {
            let other = TempDir::new().unwrap();
            drop(Wal::create(other.path(), CAPACITY, of, Revision(0)).unwrap());
            let kept = fs::read(dir.path().join(name)).unwrap();
            fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
            let refused = last(&dir, 0, 0, mark(&dir)).unwrap_err();
            assert!(refused.contains(why) && refused.contains(name), "{refused}");
            fs::write(dir.path().join(name), kept).unwrap();
        }
    }
}

#[test]
fn a_missing_file_is_damage() {
    let dir = TempDir::new().unwrap();
    written(&dir, 1..=3);
    fs::remove_file(dir.path().join(FILES[1])).unwrap();
    let why = last(&dir, 0, 0, mark(&dir)).unwrap_err();
    assert!(why.contains(FILES[1]) && why.contains("missing"), "{why}");
}

#[test]
fn a_frame_that_is_taken_back_was_never_there() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(&dir);
    wal.prepare(&commit(1, 11));
    wal.append().unwrap();
    wal.seal(Revision(1));
    wal.prepare(&commit(2, 22));
    // As if it were on disk, and the write had failed.
    let file = fs::File::options().write(true).open(first_file(&dir)).unwrap();
    file.write_all_at(&wal.frame, wal.segments[0].offset()).unwrap();
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(2)));
    wal.discard_tail().unwrap();
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(1)));
    wal.prepare(&commit(2, 22));
    wal.append().unwrap();
    wal.seal(Revision(2));
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(2)));
}

#[test]
fn a_frame_that_is_rejected_and_taken_back_was_never_there() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(&dir);
    append(&mut wal, 1);
    wal.prepare(&commit(2, 22));
    wal.append().unwrap();
    wal.reject();
    wal.discard_tail().unwrap();
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(1)));
    append(&mut wal, 2);
    append(&mut wal, 3);
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(3)));
}

#[test]
fn a_round_that_could_not_begin_is_taken_back() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(&dir);
    append(&mut wal, 1);
    // As if the head were on disk, and the write had failed.
    let header = encode_header(log(), 2, Revision(1));
    wal.segments[1].begin(&header).unwrap();
    wal.in_doubt = true;
    wal.discard_tail().unwrap();
    append(&mut wal, 2);
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(2)));
    wal.rotate(Revision(2)).unwrap();
    append(&mut wal, 3);
    assert_eq!(last(&dir, 0, 0, mark(&dir)), Ok(Some(3)));
}

#[test]
fn a_batch_that_is_larger_than_a_file_gets_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(&dir);
    wal.prepare(&commit(1, 11));
    wal.append().unwrap();
    wal.seal(Revision(1));
    let large = 2 * usize::try_from(CAPACITY).unwrap();
    assert!(!wal.prepare(&commit(2, large)));
    wal.rotate(Revision(1)).unwrap();
    assert!(wal.prepare(&commit(2, large)));
    wal.append().unwrap();
    wal.seal(Revision(2));
    let expected = Expected {
        log: log(),
        segment_bytes: segment_bytes(CAPACITY),
        current: Revision(0),
        generation: 0,
        mark: mark(&dir),
    };
    let files = read_segments(dir.path()).unwrap();
    let memtable = recover(dir.path(), &files, &expected).unwrap();
    assert_eq!(memtable.last(), Some(Revision(2)));
}

//! A data directory is what the crate's text says: another [`reader`] finds in it what the crate does, and the crate reads what was written
//! by hand.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::revision::{Revision, Start};
use common::time::Timestamp;
use store::disk::{DiskStore, Options};
use store::{Commit, Family, Order, Store, Table, Write};
use tempfile::TempDir;

use crate::reader::{self, Content, FRAMES, crc};
use crate::{OWNER, copy_of};

const HEADS: Table = Table("heads");
const PARTS: Table = Table("parts");
const NOTES: Table = Table("notes/by time");
const TABLES: [Table; 3] = [HEADS, PARTS, NOTES];

/// A record of a family begins with it.
fn family_of(table: &str, value: &[u8]) -> Option<Family> {
    let id = *value.first_chunk()?;
    let is_head = table == HEADS.0;
    (is_head || table == PARTS.0).then_some(Family { id, is_head })
}

/// Checkpoints wait.
static HELD: AtomicBool = AtomicBool::new(false);

/// How many are over.
static CHECKPOINTS: AtomicU64 = AtomicU64::new(0);

fn pass(point: &str) {
    while point == "checkpoint.before" && HELD.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    if point == "checkpoint.after" {
        CHECKPOINTS.fetch_add(1, Ordering::SeqCst);
    }
}

/// Small segments, which only a checkpoint of a full one empties.
fn open(dir: &Path) -> Arc<DiskStore> {
    let options = Options {
        cache_bytes: 1 << 20,
        wal_bytes: 64 << 10,
        checkpoint_every: Duration::from_secs(3_600),
        family_of,
        passes: pass,
        ..Options::of(OWNER)
    };
    DiskStore::open(dir, options).unwrap()
}

/// A store, and what was committed to it.
struct Story {
    dir: TempDir,
    committed: Content,
    last: u64,
}

impl Story {
    /// Commits the next revisions, of records of each kind: short and long ones, alone and of a family, and deletions.
    fn commit(&mut self, store: &DiskStore, count: u64) {
        for _ in 0..count {
            self.last += 1;
            let n = self.last;
            let family = [(n / 50) as u8; 16];
            let words = format!(
                "revision {n} says again and again what revision {} has said; ",
                n / 50 * 50
            )
            .repeat(60);
            let value = |length: usize| [&family, &words.as_bytes()[..length]].concat();
            let put = |table, key: u64, value| Write {
                table,
                key: key.to_be_bytes().to_vec(),
                value,
            };
            let mut writes = vec![put(NOTES, n, Some(value((n % 300) as usize)))];
            match n % 50 {
                0 if n >= 100 => writes.push(put(HEADS, n, Some(value(3_000)))),
                1..10 => writes.push(put(NOTES, n - 1, None)),
                // The first rows of the history are of no family.
                _ if n >= 100 => writes.push(put(PARTS, n % 40, Some(value(700)))),
                _ => {}
            }
            let commit = Commit {
                revision: Revision(n),
                time: Timestamp(n as i64 - 20),
                history: words.as_bytes()[..(n % 900) as usize].to_vec(),
                writes,
            };
            let start = store.identity().start.0;
            let shown = (start, commit.time.0, commit.history.clone());
            self.committed.history.insert(n, shown);
            for write in &commit.writes {
                let place = (write.table.0.to_owned(), write.key.clone());
                match write.value.clone() {
                    Some(value) => drop(self.committed.records.insert(place, value)),
                    None => drop(self.committed.records.remove(&place)),
                }
            }
            store.commit([commit].into()).unwrap();
        }
    }

    /// Commits until the log is at this generation.
    fn commit_up_to(&mut self, store: &DiskStore, generation: u64) {
        while self.generation() < generation {
            self.commit(store, 1);
        }
        self.commit(store, 3);
    }

    fn generation(&self) -> u64 {
        let seed = reader::manifest(self.dir.path()).seed;
        reader::seal(self.dir.path(), seed).generation
    }

    /// Has another reader and the crate read a copy.
    fn is_read(&self) {
        let copies = [(); 2].map(|()| copy_of(self.dir.path()));
        assert!(reader::read(copies[0].path()) == self.committed, "another reader");
        let store = open(copies[1].path());
        assert!(content(&store) == self.committed, "the crate");
    }
}

/// All that the crate finds.
fn content(store: &DiskStore) -> Content {
    let reader = store.reader().unwrap();
    let all = (Bound::Unbounded, Bound::Unbounded);
    let records = TABLES.into_iter().flat_map(|table| {
        let found = reader.scan(table, all, Order::Ascending, usize::MAX).unwrap();
        found
            .into_iter()
            .map(move |(key, value)| ((table.0.to_owned(), key), value))
    });
    let history = store.history(Revision(0), usize::MAX).unwrap();
    let shown = |recorded: store::Recorded| {
        (
            recorded.revision.0,
            (recorded.start.0, recorded.time.0, recorded.history),
        )
    };
    Content {
        records: records.collect(),
        history: history.into_iter().map(shown).collect(),
    }
}

#[test]
fn another_reader_that_follows_the_text_finds_what_the_crate_does() {
    let mut story = Story {
        dir: TempDir::new().unwrap(),
        committed: Content::default(),
        last: 0,
    };
    let store = open(story.dir.path());
    story.commit(&store, 20);
    // In the log only.
    story.is_read();
    // In the tables, and in the segment that is written now.
    story.commit_up_to(&store, 4);
    while CHECKPOINTS.load(Ordering::SeqCst) < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    story.is_read();
    // In the tables, and in both segments.
    HELD.store(true, Ordering::SeqCst);
    story.commit_up_to(&store, 5);
    story.is_read();
    HELD.store(false, Ordering::SeqCst);
    drop(store);
    // In the tables only.
    story.is_read();
    // In the tables, of two starts, and in the log.
    let store = open(story.dir.path());
    story.commit(&store, 20);
    story.is_read();
}

/// A frame of one revision, which puts one record and deletes another one.
const BY_HAND: &str = "56574c31 42bfbe3b 0700000000000000 01000000 36000000 \
     ffffffffffffffff 05000000 02000000 73686f776e \
     01000000 02000000 03000000 61 6b31 76616c \
     01000000 02000000 ffffffff 62 6b32 0000";

#[test]
fn a_frame_written_by_hand_is_read_as_the_text_says() {
    let digits: String = BY_HAND.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    let (first, revisions, length) = reader::frame(*b"the seed", 3, &bytes).unwrap();
    assert_eq!((first, length), (7, bytes.len()));
    let expected = reader::Revision {
        time: -1,
        history: b"shown".to_vec(),
        writes: vec![
            ("a".to_owned(), b"k1".to_vec(), Some(b"val".to_vec())),
            ("b".to_owned(), b"k2".to_vec(), None),
        ],
    };
    assert_eq!(revisions, [expected]);
}

/// What somebody else appends to a log by the text is taken for what it says.
#[test]
fn the_crate_reads_a_log_that_was_written_by_the_text() {
    let dir = TempDir::new().unwrap();
    let store = DiskStore::open(dir.path(), Options::of(OWNER)).unwrap();
    let copy = copy_of(dir.path());
    drop(store);
    let manifest = reader::manifest(copy.path());
    let mut body = Vec::new();
    for (revision, history) in [(1_u64, "first"), (2, "second")] {
        body.extend(revision.to_le_bytes());
        body.extend((history.len() as u32).to_le_bytes());
        body.extend(1_u32.to_le_bytes());
        body.extend(history.as_bytes());
        for length in [NOTES.0.len(), 3, history.len()] {
            body.extend((length as u32).to_le_bytes());
        }
        body.extend([NOTES.0.as_bytes(), b"key", history.as_bytes()].concat());
    }
    let numbers = [
        &1_u64.to_le_bytes()[..],
        &2_u32.to_le_bytes(),
        &(body.len() as u32).to_le_bytes(),
    ]
    .concat();
    let summed = [numbers, body].concat();
    let sum = crc(&[&manifest.seed, &1_u64.to_le_bytes(), &summed]);
    let mut frame = [&b"VWL1"[..], &sum.to_le_bytes(), &summed].concat();
    frame.resize(frame.len().next_multiple_of(8), 0);
    let path = copy.path().join("store.wal-0");
    let mut segment = fs::read(&path).unwrap();
    segment[FRAMES..FRAMES + frame.len()].copy_from_slice(&frame);
    fs::write(path, segment).unwrap();
    let mark = [1, (FRAMES + frame.len()) as u64, 2]
        .map(u64::to_le_bytes)
        .concat();
    let sum = crc(&[&manifest.seed, &mark]);
    let mut seal = fs::read(copy.path().join("store.seal")).unwrap();
    seal[512..544].copy_from_slice(&[&b"VSL1"[..], &sum.to_le_bytes(), &mark].concat());
    fs::write(copy.path().join("store.seal"), seal).unwrap();

    let found = reader::read(copy.path());
    let store = DiskStore::open(copy.path(), Options::of(OWNER)).unwrap();
    assert!(content(&store) == found);
    let expected =
        |revision: u64, history: &str| (revision, (manifest.start, revision as i64, history.into()));
    assert_eq!(
        found.history,
        BTreeMap::from([expected(1, "first"), expected(2, "second")])
    );
    let value = store.reader().unwrap().get(NOTES, b"key").unwrap();
    assert_eq!(value.as_deref(), Some(&b"second"[..]));
    assert!(store.span(Start(manifest.start)).unwrap().is_some());
}

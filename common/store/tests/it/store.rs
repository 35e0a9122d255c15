//! What every store promises, tried on each of them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use common::revision::{Revision, Start};
use common::time::Timestamp;
use doubles::memory::{Disk, MemoryStore};
use proptest::prelude::*;
use store::disk::{Backup, DiskStore, Options};
use store::{Commit, Order, Store, StoreError, Table, Write};
use tempfile::TempDir;

use crate::{OWNER, copy_of};

const A: Table = Table("a");
const B: Table = Table("b");

/// A store that can be dropped and opened again.
trait Bench {
    fn open(&self) -> Arc<dyn Store>;
    /// Another one, empty.
    fn fresh(&self) -> Box<dyn Bench>;
}

struct OnDisk(TempDir, Options);

impl Bench for OnDisk {
    fn open(&self) -> Arc<dyn Store> {
        DiskStore::open(self.0.path(), self.1).unwrap()
    }

    fn fresh(&self) -> Box<dyn Bench> {
        Box::new(OnDisk(TempDir::new().unwrap(), self.1))
    }
}

impl Bench for Disk {
    fn open(&self) -> Arc<dyn Store> {
        MemoryStore::open(self.clone())
    }

    fn fresh(&self) -> Box<dyn Bench> {
        Box::new(Disk::new())
    }
}

/// What is committed stays in the log.
fn on_disk() -> OnDisk {
    let options = Options {
        checkpoint_every: Duration::from_secs(3600),
        ..options()
    };
    OnDisk(TempDir::new().unwrap(), options)
}

/// What is committed is on its way into the tables at once, and the log is full at any time.
fn hasty() -> OnDisk {
    let options = Options {
        wal_bytes: 256,
        checkpoint_every: Duration::ZERO,
        ..options()
    };
    OnDisk(TempDir::new().unwrap(), options)
}

fn options() -> Options {
    Options {
        cache_bytes: 8 << 20,
        ..Options::of(OWNER)
    }
}

fn put(table: Table, key: &str, value: &str) -> Write {
    Write {
        table,
        key: key.into(),
        value: Some(value.into()),
    }
}

fn delete(table: Table, key: &str) -> Write {
    Write {
        table,
        key: key.into(),
        value: None,
    }
}

fn commit(revision: u64, writes: Vec<Write>) -> Commit {
    Commit {
        revision: Revision(revision),
        time: Timestamp(revision as i64 * 10),
        history: format!("history {revision}").into_bytes(),
        writes,
    }
}

fn keys(
    store: &dyn Store,
    table: Table,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    order: Order,
    limit: usize,
) -> String {
    let found = store
        .reader()
        .unwrap()
        .scan(table, (from, to), order, limit)
        .unwrap();
    let keys = found.into_iter().map(|(key, _)| String::from_utf8(key).unwrap());
    keys.collect::<Vec<_>>().join("")
}

macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod disk {
            $(#[test] fn $name() { super::$name(&super::on_disk()); })*
        }
        mod hasty_disk {
            $(#[test] fn $name() { super::$name(&super::hasty()); })*
        }
        mod memory {
            $(#[test] fn $name() { super::$name(&super::Disk::new()); })*
        }
    };
}

on_every_store!(
    what_was_committed_is_there_after_a_crash,
    within_a_batch_the_last_write_of_a_record_wins,
    what_does_not_follow_is_refused_whole_and_costs_nothing,
    a_reader_sees_one_revision_whatever_follows,
    scans_keep_to_their_range_order_and_limit,
    a_start_knows_what_it_made,
    trimmed_history_is_gone_and_the_rest_stays,
    opening_again_keeps_what_was_committed,
    a_store_does_what_a_map_does,
);

fn what_was_committed_is_there_after_a_crash(bench: &dyn Bench) {
    let store = bench.open();
    let first = store.identity();
    assert_eq!(store.reader().unwrap().revision(), Revision(0));
    store
        .commit(
            [
                commit(1, vec![put(A, "k", "1")]),
                commit(2, vec![put(B, "k", "2")]),
            ]
            .into(),
        )
        .unwrap();
    store.commit([commit(3, vec![delete(A, "k")])].into()).unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(store.identity().store_id, first.store_id);
    assert_ne!(store.identity().start, first.start);
    let reader = store.reader().unwrap();
    assert_eq!(reader.revision(), Revision(3));
    assert_eq!(reader.get(A, b"k").unwrap(), None);
    assert_eq!(reader.get(B, b"k").unwrap(), Some(b"2".to_vec()));
    let history = store.history(Revision(1), 10).unwrap();
    let seen: Vec<_> = history
        .iter()
        .map(|r| (r.revision.0, r.start, r.time.0))
        .collect();
    assert_eq!(seen, [(2, first.start, 20), (3, first.start, 30)]);
    assert_eq!(history[1].history, b"history 3");
    assert_eq!(store.history(Revision(0), 2).unwrap().len(), 2);
}

fn what_does_not_follow_is_refused_whole_and_costs_nothing(bench: &dyn Bench) {
    let store = bench.open();
    store.commit([commit(1, vec![put(A, "k", "1")])].into()).unwrap();
    for revisions in [vec![3], vec![1], vec![0], vec![2, 4], vec![2, 2]] {
        let batch: Vec<_> = revisions
            .iter()
            .map(|revision| commit(*revision, vec![put(A, "k", "wrong")]))
            .collect();
        let outcome = store.commit(batch.into());
        assert!(matches!(outcome, Err(StoreError::Damaged(_))), "{revisions:?}");
    }
    let reader = store.reader().unwrap();
    assert_eq!(reader.revision(), Revision(1));
    assert_eq!(reader.get(A, b"k").unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.history(Revision(0), 10).unwrap().len(), 1);
    store.commit([commit(2, vec![put(A, "k", "2")])].into()).unwrap();
    drop((reader, store));
    assert_eq!(bench.open().reader().unwrap().revision(), Revision(2));
}

fn within_a_batch_the_last_write_of_a_record_wins(bench: &dyn Bench) {
    let store = bench.open();
    let writes = |texts: &[Option<&str>]| {
        let write = |text: &Option<&str>| text.map_or_else(|| delete(A, "k"), |text| put(A, "k", text));
        texts.iter().map(write).collect::<Vec<_>>()
    };
    store
        .commit(
            [
                commit(1, writes(&[Some("1"), None])),
                commit(2, writes(&[Some("2"), Some("3")])),
            ]
            .into(),
        )
        .unwrap();
    assert_eq!(store.reader().unwrap().get(A, b"k").unwrap(), Some(b"3".to_vec()));
    store
        .commit([commit(3, writes(&[Some("4"), None]))].into())
        .unwrap();
    assert_eq!(store.reader().unwrap().get(A, b"k").unwrap(), None);
}

fn a_reader_sees_one_revision_whatever_follows(bench: &dyn Bench) {
    let store = bench.open();
    store
        .commit([commit(1, vec![put(A, "k", "old")])].into())
        .unwrap();
    let reader = store.reader().unwrap();
    store
        .commit([commit(2, vec![put(A, "k", "new"), put(B, "k", "new")])].into())
        .unwrap();
    assert_eq!(reader.revision(), Revision(1));
    assert_eq!(reader.get(A, b"k").unwrap(), Some(b"old".to_vec()));
    assert_eq!(reader.get(B, b"k").unwrap(), None);
    assert_eq!(store.reader().unwrap().revision(), Revision(2));
}

fn scans_keep_to_their_range_order_and_limit(bench: &dyn Bench) {
    use Bound::{Excluded, Included, Unbounded};
    use Order::{Ascending, Descending};
    let store = bench.open();
    let writes = "abcdef".chars().map(|c| put(A, &c.to_string(), "v")).collect();
    store.commit([commit(1, writes)].into()).unwrap();
    let keys = |from, to, order, limit| keys(&*store, A, from, to, order, limit);
    assert_eq!(keys(Unbounded, Unbounded, Ascending, 4), "abcd");
    assert_eq!(keys(Unbounded, Unbounded, Descending, 2), "fe");
    assert_eq!(keys(Excluded(b"b"), Unbounded, Ascending, 9), "cdef");
    assert_eq!(keys(Included(b"b"), Excluded(b"d"), Descending, 9), "cb");
    for nothing in [
        (Excluded(&b"c"[..]), Excluded(&b"c"[..])),
        (Included(b"d"), Included(b"b")),
        (Included(b"d"), Excluded(b"d")),
    ] {
        assert_eq!(keys(nothing.0, nothing.1, Ascending, 9), "", "{nothing:?}");
    }
    assert_eq!(
        super::store::keys(
            &*store,
            Table("never written"),
            Unbounded,
            Unbounded,
            Ascending,
            9
        ),
        ""
    );
}

fn a_start_knows_what_it_made(bench: &dyn Bench) {
    let mut starts = Vec::new();
    let mut revision = 0;
    for count in [2, 0, 3] {
        let store = bench.open();
        starts.push(store.identity().start);
        for _ in 0..count {
            revision += 1;
            store.commit([commit(revision, vec![])].into()).unwrap();
        }
    }
    let store = bench.open();
    let spans: Vec<_> = starts
        .iter()
        .map(|start| store.span(*start).unwrap().unwrap())
        .collect();
    let seen: Vec<_> = spans.iter().map(|span| (span.after.0, span.last.0)).collect();
    assert_eq!(seen, [(0, 2), (2, 2), (2, 5)]);
    let present = store.span(store.identity().start).unwrap().unwrap();
    assert_eq!((present.after.0, present.last.0), (5, 5));
    assert_eq!(store.span(Start(starts[0].0 ^ 1)).unwrap(), None);
}

fn trimmed_history_is_gone_and_the_rest_stays(bench: &dyn Bench) {
    let store = bench.open();
    let all: Vec<_> = (1..=5_000).map(|revision| commit(revision, vec![])).collect();
    store.commit(all.into()).unwrap();
    assert_eq!(store.oldest().unwrap(), Revision(0));
    let mut before = Revision(0);
    while store.trim(Revision(4_990)).unwrap() {
        let oldest = store.oldest().unwrap();
        assert!(oldest > before && oldest.0 < 4_990);
        assert_eq!(
            store.history(oldest, 1).unwrap()[0].revision,
            oldest.next(),
            "the rest is whole"
        );
        before = oldest;
    }
    assert_eq!(store.oldest().unwrap(), Revision(4_990));
    assert_eq!(
        store.history(Revision(0), 1).unwrap()[0].revision,
        Revision(4_991)
    );
    // More than there is: what is to come keeps its number.
    while store.trim(Revision(9_999)).unwrap() {}
    assert_eq!(store.oldest().unwrap(), Revision(5_000));
    assert_eq!(store.reader().unwrap().revision(), Revision(5_000));
    store.commit([commit(5_001, vec![])].into()).unwrap();
    drop(store);
    assert_eq!(bench.open().reader().unwrap().revision(), Revision(5_001));
}

fn opening_again_keeps_what_was_committed(bench: &dyn Bench) {
    let store = bench.open();
    store.commit([commit(1, vec![put(A, "k", "1")])].into()).unwrap();
    store.reopen().unwrap();
    assert_eq!(store.reader().unwrap().get(A, b"k").unwrap(), Some(b"1".to_vec()));
    store.commit([commit(2, vec![])].into()).unwrap();
    assert_eq!(store.history(Revision(0), 9).unwrap().len(), 2);
    assert_eq!(
        store.span(store.identity().start).unwrap().unwrap().last,
        Revision(2)
    );
}

/// Random batches, with restarts between them, against a plain map.
fn a_store_does_what_a_map_does(bench: &dyn Bench) {
    let write = (any::<bool>(), 0..8u8, proptest::option::of(any::<u8>()));
    let batch = proptest::collection::vec(proptest::collection::vec(write, 0..4), 0..4);
    let script = proptest::collection::vec((batch, any::<bool>()), 1..6);
    proptest!(ProptestConfig::with_cases(24), |(script in script)| {
        let bench = bench.fresh();
        let mut store = bench.open();
        let mut revision = 0;
        let mut expected = std::collections::BTreeMap::new();
        for (batch, restart) in script {
            let mut commits = Vec::new();
            for writes in batch {
                revision += 1;
                let writes = writes.into_iter().map(|(in_a, key, value)| {
                    let table = if in_a { A } else { B };
                    let value = value.map(|value| vec![value]);
                    expected.insert((table, vec![key]), value.clone());
                    Write { table, key: vec![key], value }
                });
                commits.push(commit(revision, writes.collect()));
            }
            store.commit(commits.into()).unwrap();
            if restart {
                // The old one is dropped before the file is opened again.
                drop(std::mem::replace(&mut store, MemoryStore::new()));
                store = bench.open();
            }
            let reader = store.reader().unwrap();
            prop_assert_eq!(reader.revision(), Revision(revision));
            for ((table, key), value) in &expected {
                prop_assert_eq!(&reader.get(*table, key).unwrap(), value);
            }
        }
    });
}

#[test]
fn a_second_open_of_a_data_directory_is_refused_in_words() {
    let bench = on_disk();
    let _open = bench.open();
    let Err(StoreError::Unavailable(text)) = DiskStore::open(bench.0.path(), options()) else {
        panic!("it was opened twice");
    };
    assert!(
        text.contains("another process") && text.contains("lock"),
        "{text}"
    );
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("store.redb"), vec![7; 10_000]).unwrap();
    assert!(DiskStore::open(dir.path(), options()).is_err());
}

#[test]
fn what_is_in_the_log_only_is_taken_in_after_a_crash() {
    let bench = on_disk();
    let store = bench.open();
    for revision in 1..=20 {
        let writes = vec![
            put(A, "k", &revision.to_string()),
            put(B, &revision.to_string(), "v"),
        ];
        store.commit([commit(revision, writes)].into()).unwrap();
        let copy = copy_of(bench.0.path());
        let crashed = DiskStore::open(copy.path(), options()).unwrap();
        let reader = crashed.reader().unwrap();
        assert_eq!(reader.revision(), Revision(revision));
        assert_eq!(
            reader.get(A, b"k").unwrap(),
            Some(revision.to_string().into_bytes())
        );
        let history = crashed.history(Revision(0), 99).unwrap();
        assert_eq!(history.len(), revision as usize);
        assert!(
            history
                .iter()
                .all(|recorded| recorded.start == store.identity().start)
        );
    }
}

#[test]
fn without_its_log_a_store_that_was_not_closed_is_damaged_and_one_that_was_is_whole() {
    let bench = on_disk();
    let store = bench.open();
    store.commit([commit(1, vec![put(A, "k", "1")])].into()).unwrap();
    let copy = copy_of(bench.0.path());
    std::fs::remove_file(copy.path().join("store.wal-0")).unwrap();
    let Err(StoreError::Damaged(why)) = DiskStore::open(copy.path(), options()) else {
        panic!("a revision was lost without a word");
    };
    assert!(why.contains("store.wal-0"), "{why}");

    drop(store);
    for name in ["store.wal-0", "store.wal-1"] {
        std::fs::remove_file(bench.0.path().join(name)).unwrap();
    }
    assert_eq!(bench.open().reader().unwrap().revision(), Revision(1));
}

/// Memtables and tables are one to whoever reads: a deletion in the log hides what is in the tables.
#[test]
fn a_scan_over_log_and_tables_is_as_over_one_map() {
    let (calm, hasty) = (on_disk(), hasty());
    let whole = calm.open();
    let store = hasty.open();
    for revision in 1..=200_u64 {
        let key = format!("{:02}", revision * 7 % 31);
        let write = match revision % 3 {
            0 => delete(A, &key),
            _ => put(A, &key, &revision.to_string()),
        };
        for store in [&store, &whole] {
            store
                .commit([commit(revision, vec![write.clone()])].into())
                .unwrap();
        }
        for order in [Order::Ascending, Order::Descending] {
            for limit in [1, 5, 99] {
                let scan = |store: &Arc<dyn Store>| {
                    let range = (Bound::Included(&b"05"[..]), Bound::Excluded(&b"27"[..]));
                    store.reader().unwrap().scan(A, range, order, limit).unwrap()
                };
                assert_eq!(scan(&store), scan(&whole), "{order:?} {limit} at {revision}");
            }
        }
    }
}

/// The process of the test below: a process of its own, for its limit on the size of files is everybody's in it.
#[test]
fn on_a_full_disk() {
    let Some(dir) = std::env::var_os(FULL_DISK) else {
        return;
    };
    let dir = std::path::Path::new(&dir);
    let options = Options {
        wal_bytes: 64 << 10,
        checkpoint_every: Duration::ZERO,
        ..options()
    };
    let store = DiskStore::open(dir, options).unwrap();
    // No file may grow beyond what the tables have now, which is more than the log's files have.
    may_grow_to(Some(std::fs::metadata(dir.join("store.redb")).unwrap().len()));
    let value = "v".repeat(4 << 10);
    let mut committed = 0;
    let refused = loop {
        let writes = vec![put(A, &committed.to_string(), &value)];
        match store.commit([commit(committed + 1, writes)].into()) {
            Ok(()) => committed += 1,
            Err(error) => break error,
        }
        assert!(committed < 10_000, "the tables never had to grow");
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(store.reopen().is_err(), "there is no room yet");
    may_grow_to(None);
    while store.reopen().is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let all = |store: &DiskStore| {
        assert_eq!(store.reader().unwrap().revision(), Revision(committed));
        for key in 0..committed {
            let found = store
                .reader()
                .unwrap()
                .get(A, key.to_string().as_bytes())
                .unwrap();
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key} of {committed}");
        }
    };
    all(&store);
    drop(store);
    all(&DiskStore::open(dir, options).unwrap());
    println!("{DONE}");
}

const FULL_DISK: &str = "STORE_TEST_FULL_DISK";
const DONE: &str = "nothing of what was committed is lost";

fn may_grow_to(bytes: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

#[test]
fn tables_that_cannot_grow_refuse_in_time_lose_nothing_and_go_on_when_they_can() {
    let dir = TempDir::new().unwrap();
    // Without the signal a write beyond the limit fails as one on a full disk does.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["store::on_a_full_disk", "--exact", "--nocapture"])
        .env(FULL_DISK, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains(DONE),
        "{said}\n{complained}"
    );
}

#[test]
fn a_data_directory_from_before_the_first_release_is_refused_in_words_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("store.redb");
    let rows = redb::TableDefinition::<u64, &[u8]>::new("runtime/history");
    let database = redb::Database::create(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    let old = b"a start and a time, and what was shown".as_slice();
    transaction.open_table(rows).unwrap().insert(1, old).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = DiskStore::open(dir.path(), options()).unwrap_err().to_string();
    assert!(
        refused.contains("store.redb") && refused.contains("empty data directory"),
        "{refused}"
    );
    let database = redb::Database::open(&file).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let kept = transaction.open_table(rows).unwrap().get(1).unwrap().unwrap();
    assert_eq!(kept.value(), old);
}

/// Everything in both tables.
fn all(store: &dyn Store) -> Vec<Vec<store::Pair>> {
    let reader = store.reader().unwrap();
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let of = |table| reader.scan(table, everything, Order::Ascending, 10_000).unwrap();
    [A, B].map(of).into()
}

#[test]
fn a_backup_holds_what_was_committed_when_it_began_wherever_that_lay() {
    for bench in [on_disk(), hasty()] {
        let store = bench.open();
        let mut revision = Revision(0);
        let mut commit = |writes: Vec<Write>| {
            revision = revision.next();
            let commit = Commit {
                revision,
                time: Timestamp(1),
                history: Vec::new(),
                writes,
            };
            store.commit([commit].into()).unwrap();
        };
        // Too much for a compressor to hold back, and the first record of all.
        let mut random = 1_u64;
        let noise = (0..40_000).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{random:x}")
        });
        commit(vec![put(A, "!", &noise.collect::<String>())]);
        for n in 0..300 {
            let key = format!("{:03}", n * 7 % 100);
            commit(vec![match n % 5 {
                0 => delete(A, &key),
                _ => put(A, &key, &n.to_string()),
            }]);
        }
        commit(vec![put(B, "once", "once")]);
        let before = all(&*store);
        let file = bench.0.path().join("backup.file");
        let mut out = Interrupted {
            file: std::fs::File::create(&file).unwrap(),
            meanwhile: Some(|| {
                for n in 0..150 {
                    commit(vec![put(A, &format!("{n:03}"), "later"), delete(B, "once")]);
                }
            }),
        };
        store.back_up(&mut out).unwrap();
        assert!(out.meanwhile.is_none(), "it was written");
        assert_ne!(all(&*store), before);
        let folder = TempDir::new().unwrap();
        let into = folder.path().join("into");
        Backup::open(&file, OWNER).unwrap().restore(&into).unwrap();
        let restored = DiskStore::open(&into, options()).unwrap();
        assert_eq!(all(&*restored), before);
        assert_eq!(restored.reader().unwrap().revision(), Revision(302));
        assert_ne!(restored.identity().store_id, store.identity().store_id);
    }
}

/// A file, and what happens while the first bytes are written into it.
struct Interrupted<F> {
    file: std::fs::File,
    meanwhile: Option<F>,
}

impl<F: FnOnce()> std::io::Write for Interrupted<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

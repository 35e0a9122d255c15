//! Records of one family are compressed as one, and nobody who reads them can tell.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::revision::Revision;
use common::time::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use store::disk::{DiskStore, Options, check};
use store::{Commit, Family, Order, Store as _, Table, Write};
use tempfile::TempDir;

use crate::OWNER;

const HEADS: Table = Table("heads");
const PARTS: Table = Table("parts");
const OTHERS: Table = Table("others");

/// A record of a family begins with it.
fn family_of(table: &str, value: &[u8]) -> Option<Family> {
    let id = *value.first_chunk()?;
    let is_head = table == HEADS.0;
    (is_head || table == PARTS.0).then_some(Family { id, is_head })
}

/// What is committed is on its way into the tables at once.
fn open(dir: &Path) -> Arc<DiskStore> {
    let options = Options {
        cache_bytes: 8 << 20,
        wal_bytes: 64 << 10,
        checkpoint_every: Duration::ZERO,
        family_of,
        ..Options::of(OWNER)
    };
    DiskStore::open(dir, options).unwrap()
}

/// Bytes of all rows, of which every one is whole.
fn bytes(dir: &Path) -> u64 {
    let report = check(dir, OWNER).unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
    report.record_bytes + report.history_bytes
}

/// What a head says is drawn once, and cannot be compressed.
fn head(family: u8, bytes: usize) -> Vec<u8> {
    let mut value = vec![family; 16];
    value.resize(16 + bytes, 0);
    StdRng::seed_from_u64(u64::from(family)).fill_bytes(&mut value[16..]);
    value
}

/// A part repeats a piece of it.
fn part(family: u8, head: &[u8], at: usize, own: u8) -> Vec<u8> {
    let piece = &head[16 + at..][..400.min(head.len() - 16 - at)];
    [&[family; 16], piece, &[own; 3]].concat()
}

fn put(table: Table, key: &[u8], value: Option<Vec<u8>>) -> Write {
    Write {
        table,
        key: key.to_vec(),
        value,
    }
}

/// Each revision shows what it writes, as the services' do.
fn commit(revision: u64, writes: Vec<Write>) -> Commit {
    Commit {
        revision: Revision(revision),
        time: Timestamp(7),
        history: writes
            .iter()
            .flat_map(|write| write.value.clone().unwrap_or_default())
            .collect(),
        writes,
    }
}

#[test]
fn what_the_parts_of_a_whole_repeat_is_kept_once() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let before = bytes(dir.path());
    let store = open(dir.path());
    let head = head(1, 20_000);
    let mut writes = vec![put(HEADS, &[1], Some(head.clone()))];
    for n in 0..50 {
        let value = part(1, &head, usize::from(n) * 400, n);
        writes.push(put(PARTS, &[n], Some(value.clone())));
    }
    store.commit([commit(1, writes)].into()).unwrap();
    drop(store);
    // Records and history of 40 kB each, of which half says what the other half says.
    let kept = bytes(dir.path()) - before;
    assert!(kept < 20_000 + 50 * 2 * 70, "{kept}");
}

#[test]
fn records_of_families_are_read_as_they_were_put_and_leave_nothing_behind() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let mut expected: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut shown = Vec::new();
    let mut store = open(dir.path());
    for revision in 1..=400_u64 {
        let family = chance.random_range(0..4_u8);
        // One of them is too short to be worth it.
        let head = head(family, if family == 0 { 900 } else { 9_000 });
        let n = chance.random_range(0..12_u8);
        let at = chance.random_range(0..8_000_usize).min(head.len() - 16);
        let piece = part(family, &head, at, n);
        let write = match chance.random_range(0..8) {
            0 | 1 => put(HEADS, &[family], Some(head)),
            2 => put(HEADS, &[family], None),
            3 | 4 => put(PARTS, &[family, n], None),
            // A key may change hands.
            5 => put(PARTS, &[9, n], Some(piece)),
            6 => put(OTHERS, &[n], Some(piece)),
            _ => put(PARTS, &[family, n], Some(piece)),
        };
        match &write.value {
            Some(value) => drop(expected.insert((write.table, write.key.clone()), value.clone())),
            None => drop(expected.remove(&(write.table, write.key.clone()))),
        }
        let commit = commit(revision, vec![write]);
        shown.push(commit.history.clone());
        store.commit([commit].into()).unwrap();
        if chance.random_range(0..20) == 0 {
            drop(store);
            bytes(dir.path());
            store = open(dir.path());
        }
        if chance.random_range(0..40) == 0 {
            let oldest = store.oldest().unwrap().0;
            store
                .trim(Revision(chance.random_range(oldest..=revision)))
                .unwrap();
        }
    }
    let all = (Bound::Unbounded, Bound::Unbounded);
    let mut last = 400;
    for round in 0..2 {
        drop(store);
        bytes(dir.path());
        store = open(dir.path());
        let reader = store.reader().unwrap();
        let mut found = BTreeMap::new();
        for table in [HEADS, PARTS, OTHERS] {
            for (key, value) in reader.scan(table, all, Order::Ascending, usize::MAX).unwrap() {
                assert_eq!(reader.get(table, &key).unwrap().as_ref(), Some(&value));
                found.insert((table, key), value);
            }
        }
        assert_eq!(found, expected);
        let oldest = store.oldest().unwrap();
        let history = store.history(oldest, usize::MAX).unwrap();
        assert_eq!(history.len() as u64, last - oldest.0);
        for recorded in history {
            assert_eq!(recorded.history, shown[recorded.revision.0 as usize - 1]);
        }
        if round == 0 {
            let gone = std::mem::take(&mut expected);
            for ((table, key), _) in gone {
                last += 1;
                let commit = commit(last, vec![put(table, &key, None)]);
                shown.push(commit.history.clone());
                store.commit([commit].into()).unwrap();
            }
        }
    }
    // With the last record and the last row that need it, a dictionary goes.
    store.trim(Revision(last)).unwrap();
    drop(store);
    // What may be left of the history is a row whose revisions are not all trimmed, of deletions that show nothing.
    let left = check(dir.path(), OWNER).unwrap();
    assert_eq!((left.record_bytes, left.faults), (0, Vec::new()));
}

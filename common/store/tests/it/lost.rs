//! A data directory that is moved, removed or replaced under a running store: nothing more is acknowledged, what was is
//! saved or named, and when it is back the store goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::revision::Revision;
use common::time::Timestamp;
use store::disk::{DiskStore, Options};
use store::{Commit, Store, Table, Write};
use tempfile::TempDir;

use crate::OWNER;

const TABLE: Table = Table("a");

/// In the log only, and on its way into the tables at once.
const CHECKPOINTS: [Duration; 2] = [Duration::from_secs(3600), Duration::ZERO];

const BEFORE: u64 = 20;

struct Place {
    temp: TempDir,
    store: Arc<DiskStore>,
}

fn open(dir: &Path, checkpoint_every: Duration) -> Arc<DiskStore> {
    let options = Options {
        wal_bytes: 1 << 20,
        checkpoint_every,
        ..Options::of(OWNER)
    };
    DiskStore::open(dir, options).unwrap()
}

impl Place {
    fn new(checkpoint_every: Duration) -> Self {
        let temp = TempDir::new().unwrap();
        let store = open(&temp.path().join("data"), checkpoint_every);
        let place = Self { temp, store };
        for n in 1..=BEFORE {
            place.commit(n).unwrap();
        }
        place.store.look_after().unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn commit(&self, n: u64) -> Result<(), String> {
        let commit = Commit {
            revision: Revision(n),
            time: Timestamp::default(),
            history: format!("history {n}").into_bytes(),
            writes: vec![Write {
                table: TABLE,
                key: n.to_be_bytes().to_vec(),
                value: Some(format!("value {n}").into_bytes()),
            }],
        };
        self.store
            .commit([commit].into())
            .map_err(|error| error.to_string())
    }
}

/// That a store holds all that was acknowledged, and no more.
fn holds(store: &dyn Store, last: u64) {
    let reader = store.reader().unwrap();
    assert_eq!(reader.revision(), Revision(last));
    for n in 1..=last {
        let value = reader.get(TABLE, &n.to_be_bytes()).unwrap();
        assert_eq!(value, Some(format!("value {n}").into_bytes()));
    }
}

#[test]
fn one_that_was_moved_takes_nothing_more_until_it_is_back() {
    for every in CHECKPOINTS {
        for replaced in [false, true] {
            let place = Place::new(every);
            fs::rename(place.path("data"), place.path("moved")).unwrap();
            if replaced {
                fs::create_dir(place.path("data")).unwrap();
            }
            let said = place.commit(BEFORE + 1).unwrap_err();
            assert!(said.contains(place.path("moved").to_str().unwrap()), "{said}");
            assert!(place.store.trouble().is_err() && place.store.look_after().is_err());
            assert!(place.store.reopen().is_err());
            holds(&*place.store, BEFORE);
            if replaced {
                assert_eq!(
                    fs::read_dir(place.path("data")).unwrap().count(),
                    0,
                    "not touched"
                );
                fs::remove_dir(place.path("data")).unwrap();
            }
            assert!(!place.path("data.saved-1").exists(), "nothing is lost");

            fs::rename(place.path("moved"), place.path("data")).unwrap();
            place.store.reopen().unwrap();
            assert!(place.store.trouble().is_ok());
            place.commit(BEFORE + 1).unwrap();
            holds(&*place.store, BEFORE + 1);
            let Place { temp, store } = place;
            drop(store);
            holds(&*open(&temp.path().join("data"), every), BEFORE + 1);
        }
    }
}

#[test]
fn one_that_is_moved_for_good_holds_all_that_was_acknowledged() {
    for every in CHECKPOINTS {
        let place = Place::new(every);
        fs::rename(place.path("data"), place.path("moved")).unwrap();
        place.commit(BEFORE + 1).unwrap_err();
        let Place { temp, store } = place;
        drop(store);
        let found = open(&temp.path().join("moved"), every);
        let revision = found.reader().unwrap().revision();
        // What was refused may be there: nobody knows of it.
        assert!(revision == Revision(BEFORE) || revision == Revision(BEFORE + 1));
    }
}

#[test]
fn what_was_acknowledged_in_one_that_was_removed_is_saved_beside_it() {
    type Remove = fn(&Place) -> &'static str;
    let ways: [Remove; 3] = [
        |place| {
            fs::remove_dir_all(place.path("data")).unwrap();
            "data.saved-1"
        },
        |place| {
            fs::remove_dir_all(place.path("data")).unwrap();
            fs::create_dir(place.path("data")).unwrap();
            "data.saved-1"
        },
        |place| {
            for entry in fs::read_dir(place.path("data")).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            "data/saved-1"
        },
    ];
    for every in CHECKPOINTS {
        for remove in ways {
            let place = Place::new(every);
            let saved_as = remove(&place);
            let said = place.store.look_after().unwrap_err().to_string();
            let saved = place.path(saved_as);
            assert!(said.contains(saved.to_str().unwrap()), "{said}");
            assert!(place.commit(BEFORE + 1).is_err());
            assert_eq!(
                place.store.look_after().unwrap_err().to_string(),
                said,
                "it says so still"
            );
            assert!(!place.path(&saved_as.replace('1', "2")).exists(), "once");
            let Place { temp, store } = place;
            drop(store);
            holds(&*open(&temp.path().join(saved_as), every), BEFORE);
        }
    }
}

#[test]
fn a_file_of_it_that_was_replaced_is_named() {
    for file in [
        "manifest",
        "store.redb",
        "store.seal",
        "store.wal-0",
        "store.wal-1",
    ] {
        let place = Place::new(CHECKPOINTS[0]);
        let path = place.path("data").join(file);
        fs::copy(&path, place.path("copy")).unwrap();
        fs::rename(&path, place.path("moved")).unwrap();
        fs::rename(place.path("copy"), &path).unwrap();
        let said = place.store.look_after().unwrap_err().to_string();
        assert!(said.contains(file), "{said}");
        assert!(place.commit(BEFORE + 1).unwrap_err().contains(&said));
    }
}

/// Its name and its inode stay: nothing but its length tells, and what is written behind the cut makes it long again.
#[test]
fn a_file_that_is_cut_short_in_place_is_named_by_the_next_commit() {
    for file in ["store.seal", "store.wal-0", "store.wal-1"] {
        for every in CHECKPOINTS {
            let place = Place::new(every);
            let path = place.path("data").join(file);
            let whole = fs::metadata(&path).unwrap().len();
            let cut = fs::OpenOptions::new().write(true).open(&path).unwrap();
            cut.set_len(16).unwrap();
            let said = place.commit(BEFORE + 1).unwrap_err();
            assert!(said.contains(file) && said.contains("truncated"), "{said}");
            cut.set_len(whole).unwrap();
            assert!(place.store.look_after().is_err(), "what was in it is gone");
            assert!(place.commit(BEFORE + 1).is_err());
        }
    }
}

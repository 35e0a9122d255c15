//! The history is bounded, and trimming it is never felt.

use std::time::Duration;

use doubles::memory::MemoryStore;
use runtime::ages::Ages;
use runtime::clock;
use runtime::coordinator::{self, Options, Retention};
use store::{Commit, Store as _};

use crate::support::{Input, Notes, Script, eventually, log_of, patient};

async fn oldest_after(notes: u64, retention: Retention, expected: std::ops::RangeInclusive<u64>) {
    let store = MemoryStore::new();
    let options = Options {
        retention,
        ..Options::default()
    };
    let handle = coordinator::spawn_with::<Notes>(
        store.clone(),
        Script::default(),
        log_of(store.clone()),
        |_| {},
        options,
    )
    .unwrap();
    for _ in 0..notes / 100 {
        patient(handle.call(Input::NoteMany(100))).await.unwrap();
    }
    eventually("the rest is trimmed", || {
        expected.contains(&store.oldest().unwrap().0)
    })
    .await;
}

#[tokio::test]
async fn no_more_revisions_are_kept_than_wanted() {
    let retention = Retention {
        max_revisions: 250,
        ..Retention::default()
    };
    oldest_after(3_000, retention, 2_750..=2_750).await;
}

#[tokio::test]
async fn what_is_too_old_goes() {
    let retention = Retention {
        max_age: Duration::ZERO,
        ..Retention::default()
    };
    // By age they go in whole pieces: up to one stays.
    oldest_after(2_500, retention, 1_501..=2_500).await;
}

/// The history of a store that was last written 40 days before what the clock says now.
#[tokio::test]
async fn a_clock_that_jumped_between_two_starts_makes_no_history_old() {
    let store = MemoryStore::new();
    let then = clock::now().plus_seconds(-40 * 24 * 60 * 60);
    let commits = (1..=2_500).map(|revision| Commit {
        revision: common::revision::Revision(revision),
        time: then,
        history: Vec::new(),
        writes: Vec::new(),
    });
    store.commit(commits.collect()).unwrap();
    let retention = Retention::default();
    for (ages, oldest) in [
        (Ages::open(&*store, retention.max_age).unwrap(), 0..=0),
        // Known to be right all the time; whole pieces of what is old go.
        (Ages::begin(retention.max_age), 1_501..=2_500),
    ] {
        let options = Options {
            retention,
            ages,
            ..Options::default()
        };
        let log = log_of(store.clone());
        let handle =
            coordinator::spawn_with::<Notes>(store.clone(), Script::default(), log, |_| {}, options).unwrap();
        // More than after which it is trimmed.
        for _ in 0..11 {
            patient(handle.call(Input::NoteMany(100))).await.unwrap();
        }
        eventually("what is old is trimmed", || {
            oldest.contains(&store.oldest().unwrap().0)
        })
        .await;
        patient(handle.stop()).await;
        assert!(oldest.contains(&store.oldest().unwrap().0));
    }
}

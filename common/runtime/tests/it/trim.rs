//! The history is bounded, and trimming it is never felt.

use std::time::Duration;

use runtime::coordinator::{self, Options, Retention};
use runtime::store::Store as _;
use runtime::store::memory::MemoryStore;

use crate::support::{Input, Notes, Wish, eventually, log_of, patient};

async fn oldest_after(notes: u64, retention: Retention, expected: std::ops::RangeInclusive<u64>) {
    let store = MemoryStore::new();
    let options = Options {
        retention,
        ..Options::default()
    };
    let handle = coordinator::spawn_with::<Notes>(
        store.clone(),
        Wish::default(),
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

//! What a commit bears of the wall clock, the store knows, whenever the clock is set.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::revision::Revision;
use common::time::Timestamp;
use doubles::failing::{FailingStore, When};
use doubles::memory::MemoryStore;
use runtime::ages::{Ages, WallClock};
use runtime::clock;
use runtime::coordinator::{self, Handle, Options, Refusal};
use store::{Order, Store, Table};

use crate::support::{Input, Notes, Script, log_of, patient};

const DAY: i64 = 24 * 60 * 60;
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Seconds by which a clock is off.
const OFF: [i64; 4] = [40 * DAY, 7_300 * DAY, -40 * DAY, -7_300 * DAY];

fn spawn(store: &Arc<dyn Store>, ages: &Ages) -> Handle<Notes> {
    let options = Options {
        ages: ages.clone(),
        ..Options::default()
    };
    let log = log_of(Arc::clone(store));
    coordinator::spawn_with::<Notes>(Arc::clone(store), Script::default(), log, |_| {}, options).unwrap()
}

/// What the store knows of the clock.
fn known(store: &dyn Store) -> Vec<u8> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let reader = store.reader().unwrap();
    let found = reader.scan(Table("clock"), all, Order::Ascending, 9).unwrap();
    assert_eq!(found.len(), 1);
    found.into_iter().next().unwrap().1
}

/// The times of all that was recorded count as young, for these ages and for those of a start that comes now.
fn nothing_is_old(store: &dyn Store, ages: &Ages, off: i64) {
    let again = Ages::open(store, WEEK).unwrap();
    let recorded = store.history(Revision(0), usize::MAX).unwrap();
    for (whose, ages) in [("the same", ages), ("the next", &again)] {
        for record in &recorded {
            let (revision, time) = (record.revision.0, record.time);
            let is_older = ages.present().is_older(time, WEEK);
            assert!(!is_older, "{off} seconds off: revision {revision}, {whose} start");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_off_for_one_commit_makes_nothing_old() {
    static BY: AtomicI64 = AtomicI64::new(0);
    let wall: WallClock = || clock::now().plus_seconds(BY.load(Ordering::SeqCst));
    for off in OFF {
        let store: Arc<dyn Store> = MemoryStore::new();
        let ages = Ages::open_by(wall, &*store, WEEK).unwrap();
        let handle = spawn(&store, &ages);
        patient(handle.call(Input::Note)).await.unwrap();
        let before = known(&*store);
        BY.store(off, Ordering::SeqCst);
        patient(handle.call(Input::Note)).await.unwrap();
        // That very commit has it, and none after it has to say it again.
        let written = known(&*store);
        assert_ne!(written, before);
        nothing_is_old(&*store, &ages, off);
        patient(handle.call(Input::NoteMany(9))).await.unwrap();
        BY.store(0, Ordering::SeqCst);
        patient(handle.call(Input::Note)).await.unwrap();
        assert_eq!(known(&*store), written);
        patient(handle.stop()).await;
        let last = store.history(Revision(1), 1).unwrap()[0].time;
        assert!(
            (last.0 - clock::now().0 - off * 1_000_000).abs() < DAY * 1_000_000,
            "{last:?}"
        );
        nothing_is_old(&*store, &ages, off);
    }
}

/// An input that changed nothing may have left its time with the machine, which a later commit records.
#[tokio::test]
async fn what_an_input_was_told_of_the_clock_is_in_the_next_commit() {
    static BY: AtomicI64 = AtomicI64::new(0);
    let wall: WallClock = || clock::now().plus_seconds(BY.load(Ordering::SeqCst));
    for off in OFF {
        let store: Arc<dyn Store> = MemoryStore::new();
        let ages = Ages::open_by(wall, &*store, WEEK).unwrap();
        let handle = spawn(&store, &ages);
        patient(handle.call(Input::Note)).await.unwrap();
        BY.store(off, Ordering::SeqCst);
        let told = wall();
        patient(handle.call(Input::Look)).await.unwrap();
        BY.store(0, Ordering::SeqCst);
        patient(handle.call(Input::Note)).await.unwrap();
        patient(handle.stop()).await;
        for ages in [ages, Ages::open(&*store, WEEK).unwrap()] {
            assert!(!ages.present().is_older(told, WEEK), "{off}");
        }
    }
}

/// What a commit that failed said of the clock is not known to the store.
#[tokio::test]
async fn after_a_commit_that_failed_the_next_one_says_what_the_clock_has_shown() {
    static BY: AtomicI64 = AtomicI64::new(0);
    let wall: WallClock = || clock::now().plus_seconds(BY.load(Ordering::SeqCst));
    for off in OFF {
        let failing = FailingStore::wrap(MemoryStore::new());
        let store: Arc<dyn Store> = failing.clone();
        let ages = Ages::open_by(wall, &*store, WEEK).unwrap();
        let handle = spawn(&store, &ages);
        patient(handle.call(Input::Note)).await.unwrap();
        BY.store(off, Ordering::SeqCst);
        failing.fail_commit(1, When::Before);
        let failed = patient(handle.call(Input::Note)).await.map(|answer| answer.reply);
        assert_eq!(failed, Err(Refusal::StoreUnavailable));
        while patient(handle.call(Input::Note)).await.is_err() {}
        BY.store(0, Ordering::SeqCst);
        patient(handle.stop()).await;
        nothing_is_old(&*store, &ages, off);
        let times = store.history(Revision(0), usize::MAX).unwrap();
        assert!(
            times
                .iter()
                .any(|record: &_| (record.time.0 - clock::now().0).abs() > 39 * DAY * 1_000_000)
        );
    }
}

/// While nothing is recorded, it is kept all the same: by a commit of its own.
#[tokio::test]
async fn a_clock_is_kept_while_nothing_is_recorded() {
    let store: Arc<dyn Store> = MemoryStore::new();
    let ages = Ages::open(&*store, WEEK).unwrap();
    let handle = spawn(&store, &ages);
    let kept = tokio::spawn(ages.keep(handle.clone()));
    patient(async {
        while store.reader().unwrap().revision() == Revision(0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    known(&*store);
    patient(handle.stop()).await;
    patient(kept).await.unwrap();
    assert_eq!(store.reader().unwrap().revision(), Revision(1));
    assert!(store.history(Revision(0), 9).unwrap()[0].time > Timestamp(0));
}

//! Durable before visible, and what follows a commit that failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::revision::Revision;
use doubles::failing::{FailingStore, When};
use doubles::memory::MemoryStore;
use proto::store::v1::EngineHistory;
use runtime::coordinator::{self, Handle, NotSent, Perform, Refusal};
use runtime::log::Log;
use store::Store;

use crate::support::{Input, Notes, Script, eventually, log_of, patient};

struct Bench {
    store: Arc<FailingStore>,
    log: Arc<Log<EngineHistory>>,
    handle: Handle<Notes>,
    performed: Arc<Mutex<Vec<u64>>>,
    stepped: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        Self::recovering(false)
    }

    fn recovering(recovers: bool) -> Self {
        let store = FailingStore::wrap(MemoryStore::new());
        let log = log_of(store.clone());
        let performed = Arc::new(Mutex::new(Vec::new()));
        let performer = performed.clone();
        let perform = move |effect| performer.lock().unwrap().push(effect);
        let stepped = Arc::new(AtomicU64::new(0));
        let script = Script {
            recovers,
            stepped: stepped.clone(),
        };
        let handle = coordinator::spawn(store.clone(), script, log.clone(), perform).unwrap();
        Self {
            store,
            log,
            handle,
            performed,
            stepped,
        }
    }

    fn performed(&self) -> Vec<u64> {
        self.performed.lock().unwrap().clone()
    }

    /// Sends while commits wait, and gives back once the first batch is at the disk.
    async fn send_while_blocked(&self, input: Input) -> tokio::task::JoinHandle<Result<u64, Refusal>> {
        let handle = self.handle.clone();
        let call = tokio::spawn(async move { handle.call(input).await.map(|answer| answer.reply) });
        eventually("a commit waits", || self.store.waiting() > 0).await;
        call
    }
}

/// Shows an effect only when it may.
struct Shows {
    begun: Arc<AtomicU64>,
    may: std::sync::mpsc::Receiver<()>,
}

impl Perform<u64> for Shows {
    fn perform(&mut self, _effect: u64) {}

    fn show(&mut self, effect: &u64) {
        self.begun.store(*effect, Ordering::SeqCst);
        self.may.recv().unwrap();
    }
}

#[tokio::test]
async fn nobody_is_answered_or_sees_the_change_before_what_memory_shows_is_true() {
    let store = MemoryStore::new();
    let begun = Arc::new(AtomicU64::new(0));
    let (let_go, may) = std::sync::mpsc::channel();
    let shows = Shows {
        begun: begun.clone(),
        may,
    };
    let log = log_of(store.clone());
    let handle = coordinator::spawn::<Notes>(store, Script::default(), log.clone(), shows).unwrap();
    let call = tokio::spawn(async move { handle.call(Input::Note).await.map(|answer| answer.reply) });
    eventually("it is shown", || begun.load(Ordering::SeqCst) == 1).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished());
    assert_eq!(log.current(), Revision(0));
    let_go.send(()).unwrap();
    assert_eq!(patient(call).await.unwrap(), Ok(1));
    assert_eq!(log.current(), Revision(1));
}

#[tokio::test]
async fn nothing_is_published_answered_or_performed_before_it_is_durable() {
    let bench = Bench::new();
    bench.store.block_commits();
    let call = bench.send_while_blocked(Input::Note).await;
    // It is at the disk, and nobody knows of it.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished());
    assert_eq!(bench.log.current(), Revision(0));
    assert_eq!(bench.performed(), [0u64; 0]);
    bench.store.unblock_commits();
    assert_eq!(patient(call).await.unwrap(), Ok(1));
    assert_eq!(bench.log.current(), Revision(1));
    eventually("the effect is performed", || bench.performed() == [1]).await;
}

#[tokio::test]
async fn whoever_is_answered_finds_the_change_in_the_log_and_in_the_store() {
    let bench = Bench::new();
    for count in [1, 3] {
        let before = bench.log.current();
        let answer = patient(bench.handle.call(Input::NoteMany(count))).await.unwrap();
        assert_eq!(answer.token.revision, Revision(before.0 + count));
        assert_eq!(bench.log.resume(&answer.token).unwrap(), answer.token.revision);
        assert!(bench.log.current() >= answer.token.revision);
        assert!(bench.store.reader().unwrap().revision() >= answer.token.revision);
    }
}

#[tokio::test]
async fn what_waits_while_the_disk_is_busy_goes_in_one_commit() {
    let bench = Bench::new();
    bench.store.block_commits();
    let first = bench.send_while_blocked(Input::Note).await;
    // Each waits in the queue when this returns.
    for _ in 0..50 {
        bench.handle.send(Input::Note).await.unwrap();
    }
    bench.store.unblock_commits();
    patient(first).await.unwrap().unwrap();
    patient(bench.log.changed(Revision(50))).await;
    assert_eq!(bench.log.current(), Revision(51));
    assert!(bench.store.commits() <= 5, "{} commits", bench.store.commits());
}

#[tokio::test]
async fn an_input_that_changes_nothing_is_answered_without_a_commit() {
    let bench = Bench::new();
    let answer = patient(bench.handle.call(Input::Look)).await.unwrap();
    assert_eq!((answer.reply, answer.token.revision), (0, Revision(0)));
    assert_eq!(bench.store.commits(), 0);
}

#[tokio::test]
async fn an_input_that_saw_an_uncommitted_change_waits_for_its_commit() {
    let bench = Bench::new();
    bench.store.block_commits();
    let first = bench.send_while_blocked(Input::Note).await;
    let handle = bench.handle.clone();
    let both = tokio::spawn(async move { (handle.call(Input::Note).await, handle.call(Input::Look).await) });
    bench.store.unblock_commits();
    patient(first).await.unwrap().unwrap();
    let (note, look) = patient(both).await.unwrap();
    assert_eq!((note.unwrap().reply, look.unwrap().reply), (2, 2));
}

#[tokio::test]
async fn a_failed_commit_refuses_its_whole_batch_and_performs_nothing() {
    for when in [When::Before, When::After] {
        let bench = Bench::new();
        patient(bench.handle.call(Input::Note)).await.unwrap();
        eventually("the effect is performed", || bench.performed() == [1]).await;
        bench.store.block_commits();
        bench.store.fail_commit(1, when);
        bench.store.fail_reopens(3);
        let call = bench.send_while_blocked(Input::Note).await;
        bench.store.unblock_commits();
        assert_eq!(patient(call).await.unwrap(), Err(Refusal::StoreUnavailable));
        // Opened again, it knows what the disk knows, whichever it was.
        let noted = match when {
            When::Before => 1,
            When::After => 2,
        };
        let reply = patient(async {
            loop {
                match bench.handle.call(Input::Look).await {
                    Ok(answer) => break answer,
                    Err(refusal) => assert_eq!(refusal, Refusal::StoreUnavailable),
                }
            }
        });
        let answer = reply.await;
        assert_eq!((answer.reply, answer.token.revision), (noted, Revision(noted)));
        assert_eq!(bench.performed(), [1]);
        let all = bench.log.read_after(Revision(0), 100).unwrap();
        assert_eq!(all.len() as u64, noted, "the log has no hole");
        assert_eq!(
            patient(bench.handle.call(Input::Note)).await.unwrap().reply,
            noted + 1
        );
    }
}

/// Enough for a thread of its own.
const LARGE: Input = Input::NoteMany(100);

#[tokio::test]
async fn while_a_large_batch_is_at_the_disk_the_machine_goes_on_and_nobody_sees_it() {
    let bench = Bench::new();
    bench.store.block_commits();
    let large = bench.send_while_blocked(LARGE).await;
    let handle = bench.handle.clone();
    let next = tokio::spawn(async move { handle.call(Input::Note).await.map(|answer| answer.reply) });
    let handle = bench.handle.clone();
    let look = tokio::spawn(async move { handle.call(Input::Look).await.map(|answer| answer.reply) });
    eventually("it steps ahead of the disk", || {
        bench.stepped.load(Ordering::SeqCst) == 3
    })
    .await;
    assert!(!large.is_finished() && !next.is_finished() && !look.is_finished());
    assert_eq!((bench.log.current(), bench.store.commits()), (Revision(0), 0));
    assert_eq!(bench.performed(), [0u64; 0]);
    bench.store.unblock_commits();
    assert_eq!(patient(large).await.unwrap(), Ok(100));
    assert_eq!(patient(next).await.unwrap(), Ok(101));
    assert!(patient(look).await.unwrap().is_ok());
    eventually("all is performed, in order", || {
        bench.performed() == (1..=101).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(bench.log.current(), Revision(101));
}

#[tokio::test]
async fn what_was_stepped_ahead_of_a_commit_that_failed_is_refused_with_it() {
    for when in [When::Before, When::After] {
        let bench = Bench::new();
        bench.store.block_commits();
        bench.store.fail_commit(1, when);
        let large = bench.send_while_blocked(LARGE).await;
        let handle = bench.handle.clone();
        let next = tokio::spawn(async move { handle.call(Input::Note).await.map(|answer| answer.reply) });
        eventually("it steps ahead of the disk", || {
            bench.stepped.load(Ordering::SeqCst) == 2
        })
        .await;
        bench.store.unblock_commits();
        assert_eq!(patient(large).await.unwrap(), Err(Refusal::StoreUnavailable));
        assert_eq!(patient(next).await.unwrap(), Err(Refusal::StoreUnavailable));
        let noted = match when {
            When::Before => 0,
            When::After => 100,
        };
        let reply = patient(async {
            loop {
                if let Ok(answer) = bench.handle.call(Input::Look).await {
                    break answer;
                }
            }
        });
        let answer = reply.await;
        assert_eq!((answer.reply, answer.token.revision), (noted, Revision(noted)));
        assert_eq!(bench.performed(), [0u64; 0]);
        assert_eq!(
            bench
                .log
                .read_after(Revision(0), 1_000)
                .map_or(0, |all| all.len()) as u64,
            noted
        );
    }
}

#[tokio::test]
async fn a_defect_while_a_large_batch_is_committed_ends_the_coordinator_and_leaves_nobody_waiting() {
    let store = MemoryStore::new();
    let log = log_of(store.clone());
    let handle =
        coordinator::spawn::<Notes>(store, Script::default(), log, |_| panic!("on purpose")).unwrap();
    let effects = handle.call(LARGE);
    // Answered before its effects are performed, or not at all.
    let _ = patient(effects).await;
    patient(handle.ended()).await;
    assert_eq!(
        patient(handle.call(Input::Note)).await.unwrap_err(),
        Refusal::Stopping
    );
}

#[tokio::test]
async fn stopping_waits_for_a_large_batch_and_for_what_was_stepped_ahead_of_it() {
    let bench = Bench::new();
    bench.store.block_commits();
    let large = bench.send_while_blocked(LARGE).await;
    bench.handle.send(Input::Note).await.unwrap();
    let handle = bench.handle.clone();
    let stop = tokio::spawn(async move { handle.stop().await });
    eventually("it steps ahead of the disk", || {
        bench.stepped.load(Ordering::SeqCst) == 2
    })
    .await;
    assert!(!stop.is_finished());
    bench.store.unblock_commits();
    assert_eq!(patient(large).await.unwrap(), Ok(100));
    patient(stop).await.unwrap();
    assert_eq!(bench.log.current(), Revision(101));
}

#[tokio::test]
async fn while_the_store_is_away_inputs_are_refused_at_once() {
    let bench = Bench::new();
    bench.store.fail_commit(1, When::Before);
    bench.store.fail_reopens(u64::MAX);
    for _ in 0..200 {
        let refused = patient(bench.handle.call(Input::Note)).await.unwrap_err();
        assert_eq!(refused, Refusal::StoreUnavailable);
    }
    patient(bench.handle.stop()).await;
}

#[tokio::test]
async fn recovery_is_the_first_input_after_each_load() {
    let bench = Bench::recovering(true);
    assert_eq!(patient(bench.handle.call(Input::Look)).await.unwrap().reply, 1);
    bench.store.fail_commit(1, When::Before);
    patient(bench.handle.call(Input::Note)).await.unwrap_err();
    let reply = patient(async {
        loop {
            if let Ok(answer) = bench.handle.call(Input::Look).await {
                break answer.reply;
            }
        }
    });
    assert_eq!(reply.await, 2, "loaded with 1, recovered to 2");
}

#[tokio::test]
async fn stopping_finishes_what_came_before_and_refuses_the_rest() {
    let bench = Bench::new();
    bench.store.block_commits();
    let first = bench.send_while_blocked(Input::Note).await;
    let before = bench.handle.clone();
    before.send(Input::Note).await.unwrap();
    let stopping = bench.handle.clone();
    let mut stop = Box::pin(async move { stopping.stop().await });
    // It is in the queue once it has been polled: there is room.
    let polled = std::future::poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx))).await;
    assert!(polled.is_pending(), "it waits for what came before");
    let late = bench.handle.clone();
    let late = tokio::spawn(async move { late.call(Input::Note).await });
    bench.store.unblock_commits();
    assert_eq!(patient(first).await.unwrap(), Ok(1));
    patient(stop).await;
    assert_eq!(patient(late).await.unwrap().unwrap_err(), Refusal::Stopping);
    assert_eq!(bench.log.current(), Revision(2));
    assert_eq!(bench.handle.send(Input::Note).await, Err(Refusal::Stopping));
    assert!(matches!(
        bench.handle.try_send(Input::Look),
        Err(NotSent::Stopping(Input::Look))
    ));
    patient(bench.handle.ended()).await;
}

#[tokio::test]
async fn a_full_queue_gives_the_input_back() {
    let bench = Bench::new();
    bench.store.block_commits();
    let first = bench.send_while_blocked(Input::Note).await;
    let mut sent = 0u64;
    let full = loop {
        match bench.handle.try_send(Input::Note) {
            Ok(()) => sent += 1,
            Err(not_sent) => break not_sent,
        }
    };
    assert!(matches!(full, NotSent::Full(Input::Note)));
    bench.store.unblock_commits();
    patient(first).await.unwrap().unwrap();
    let answer = patient(bench.handle.call(Input::Look)).await.unwrap();
    assert_eq!(answer.reply, sent + 1);
}

#[tokio::test]
async fn effects_are_performed_in_order_and_may_spawn_tasks() {
    let store = MemoryStore::new();
    let log = log_of(store.clone());
    let sum = Arc::new(AtomicU64::new(0));
    let (performed, order) = (sum.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = order.clone();
    let perform = move |effect| {
        seen.lock().unwrap().push(effect);
        let performed = performed.clone();
        tokio::spawn(async move { performed.fetch_add(effect, Ordering::SeqCst) });
    };
    let handle = coordinator::spawn::<Notes>(store, Script::default(), log, perform).unwrap();
    for _ in 0..10 {
        handle.send(Input::NoteMany(10)).await.unwrap();
    }
    eventually("all are performed", || sum.load(Ordering::SeqCst) == 5_050).await;
    assert_eq!(*order.lock().unwrap(), (1..=100).collect::<Vec<_>>());
}

/// The recovery of a machine is its first commit: where that fails each time, opening the store again is no cure.
#[tokio::test]
async fn a_store_that_opens_and_never_commits_is_not_opened_over_and_over() {
    const PAUSE: Duration = Duration::from_secs(1);
    let bench = Bench::recovering(true);
    patient(bench.handle.call(Input::Look)).await.unwrap();
    bench.store.fail_commits();
    let begun = Instant::now();
    patient(bench.handle.call(Input::Note)).await.unwrap_err();
    eventually("it is opened a third time", || bench.store.reopens() == 3).await;
    assert!(begun.elapsed() >= 2 * PAUSE, "{:?}", begun.elapsed());
    patient(bench.handle.stop()).await;
}

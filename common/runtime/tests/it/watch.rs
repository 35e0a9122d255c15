//! What every watch promises.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::id::{StoreId, TaskId};
use common::revision::{Revision, Start, Token};
use doubles::failing::FailingStore;
use doubles::memory::MemoryStore;
use prost::Message as _;
use proto::engine::v1::watch_events_response::{Changes, Frame, Snapshot};
use proto::store::v1::EngineHistory;
use proto::task::v1::HistoryRange;
use proto::task::v1::closing::Reason;
use proto::task::v1::history_range::Problem;
use proto::task::v1::watch_start::Start as From;
use runtime::log::Log;
use runtime::machine::Change;
use runtime::status;
use runtime::watch::{MAX_AGE, Terms, WatchOptions, WatchStream, watch};
use store::Store as _;
use tonic::{Code, Status};
use tonic_types::pb;
use uuid::Uuid;

use crate::support::{
    Events, after, event, frame, from_now, log_of, next, options, read, record, record_change,
};

const ALL: Events = Events { user: None };
const ALICE: Events = Events { user: Some("alice") };

fn new_log() -> Arc<Log<EngineHistory>> {
    log_of(MemoryStore::new())
}

fn notes(log: &Log<EngineHistory>, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        record(log, vec![event(id, "alice", 0)]);
    }
}

async fn opened(stream: &mut WatchStream<Events>) {
    assert!(matches!(frame(stream).await, Frame::Opened(_)));
}

/// None where a piece has none.
fn token(text: &str) -> Option<Token> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

/// The next changes: revision, ids, token.
async fn changes(stream: &mut WatchStream<Events>) -> (u64, Vec<u64>, Option<Token>) {
    match frame(stream).await {
        Frame::Changes(changes) => (
            changes.revision,
            changes.items.iter().map(|item| item.event_id).collect(),
            token(&changes.token),
        ),
        other => panic!("expected changes, got {other:?}"),
    }
}

/// The range that an OUT_OF_RANGE status names.
fn history_range_of(status: &Status) -> Option<HistoryRange> {
    let details = pb::Status::decode(status.details()).ok()?.details;
    let any = details
        .iter()
        .find(|any| any.type_url == "type.googleapis.com/vdsm_engine.task.v1.HistoryRange")?;
    HistoryRange::decode(any.value.as_slice()).ok()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_whole_at_one_revision_and_changes_follow_it() {
    let log = new_log();
    notes(&log, 1..=1_000);
    let mut stream = watch(log.clone(), ALL, options(None, false)).unwrap();
    let Frame::Opened(opened) = frame(&mut stream).await else {
        panic!("opened is first");
    };
    assert_eq!(opened.store_id, log.identity().store_id.to_string());
    assert_eq!(opened.heartbeat_interval.unwrap().seconds, 5);
    let mut seen = Vec::new();
    let token = loop {
        match frame(&mut stream).await {
            Frame::Snapshot(Snapshot { items }) => {
                assert!(items.len() <= 256);
                seen.extend(items.iter().map(|item| item.event_id));
                // Committed meanwhile: not in the snapshot, but in the changes.
                if seen.len() == 256 {
                    notes(&log, 1_001..=1_002);
                }
            }
            Frame::SnapshotDone(done) => break done.token.parse::<Token>().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(token.revision, Revision(1_000));
    assert_eq!(changes(&mut stream).await.1, [1_001]);
    assert_eq!(changes(&mut stream).await.1, [1_002]);
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_is_read_at_one_revision_too() {
    let log = new_log();
    for id in 1..=1_000 {
        record(&log, vec![event(id, "alice", 10_000)]);
    }
    let mut stream = watch(log.clone(), ALL, options(None, false)).unwrap();
    let (mut bytes, mut count) = (0, 0);
    loop {
        match frame(&mut stream).await {
            Frame::Opened(_) => {}
            Frame::Snapshot(Snapshot { items }) => {
                let size: usize = items.iter().map(prost::Message::encoded_len).sum();
                assert!(size <= 1 << 20);
                bytes += size;
                count += items.len() as u64;
                notes(&log, 1_000 + count..=1_000 + count);
            }
            Frame::SnapshotDone(done) => {
                assert_eq!(done.token.parse::<Token>().unwrap().revision, Revision(1_000));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(bytes > 10_000_000);
    assert_eq!(count, 1_000);
    assert_eq!(changes(&mut stream).await.0, 1_001);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_snapshot_lying_is_sent_away() {
    let log = new_log();
    for id in 1..=1_000 {
        record(&log, vec![event(id, "alice", 10_000)]);
    }
    let mut stream = watch(log.clone(), ALL, options(None, false)).unwrap();
    opened(&mut stream).await;
    assert!(matches!(frame(&mut stream).await, Frame::Snapshot(_)));
    tokio::time::sleep(Duration::from_secs(61)).await;
    let status = loop {
        match next(&mut stream).await.unwrap() {
            Ok(frame) => assert!(matches!(read(&frame), Frame::Snapshot(_))),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_empty_snapshot_is_done_at_once() {
    let log = new_log();
    let mut stream = watch(log, ALL, options(None, false)).unwrap();
    opened(&mut stream).await;
    assert!(matches!(frame(&mut stream).await, Frame::SnapshotDone(_)));
}

#[tokio::test(start_paused = true)]
async fn now_begins_with_the_next_change() {
    let log = new_log();
    notes(&log, 1..=3);
    let mut stream = watch(log.clone(), ALL, from_now()).unwrap();
    notes(&log, 4..=4);
    opened(&mut stream).await;
    assert_eq!(changes(&mut stream).await.1, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_large_revision_goes_in_small_pieces_and_only_the_last_has_a_token() {
    let log = new_log();
    let mut stream = watch(log.clone(), ALL, from_now()).unwrap();
    record(&log, (1..=5).map(|id| event(id, "alice", 30_000)).collect());
    opened(&mut stream).await;
    let mut seen = Vec::new();
    let mut pieces = 0;
    loop {
        let Frame::Changes(Changes {
            token: text,
            items,
            more,
            ..
        }) = frame(&mut stream).await
        else {
            panic!("changes");
        };
        let token = token(&text);
        assert_eq!(token.is_none(), more);
        assert!(items.iter().map(prost::Message::encoded_len).sum::<usize>() <= 64 << 10);
        seen.extend(items.iter().map(|item| item.event_id));
        pieces += 1;
        if let Some(token) = token {
            assert_eq!(token.revision, Revision(1));
            break;
        }
    }
    assert_eq!((seen, pieces), (vec![1, 2, 3, 4, 5], 3));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_when_nothing_else_does_and_pass_what_was_not_selected() {
    let log = new_log();
    let mut stream = watch(log.clone(), ALICE, from_now()).unwrap();
    opened(&mut stream).await;
    let begun = tokio::time::Instant::now();
    let heartbeat = |frame| match frame {
        Frame::Heartbeat(beat) => beat.token.parse::<Token>().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(heartbeat(frame(&mut stream).await).revision, Revision(0));
    assert_eq!(begun.elapsed().as_secs(), 5);
    for id in 1..=700 {
        record(&log, vec![event(id, "bob", 0)]);
    }
    let token = heartbeat(frame(&mut stream).await);
    assert_eq!(token, log.token());
    // And it is one to resume after.
    let mut again = watch(log.clone(), ALL, after(&token)).unwrap();
    record(&log, vec![event(701, "bob", 0)]);
    opened(&mut again).await;
    assert_eq!(changes(&mut again).await.0, 701);
}

#[tokio::test(start_paused = true)]
async fn a_point_outside_the_history_is_refused_with_what_is_wrong() {
    let store = MemoryStore::new();
    let disk = store.disk();
    let log = log_of(store.clone());
    notes(&log, 1..=300);
    let backup = disk.copy();
    notes(&log, 301..=310);
    let first = log.token();
    // The backup is restored: what came after it never was.
    let store = MemoryStore::open(backup);
    let log = log_of(store.clone());
    notes(&log, 301..=302);
    store.trim(Revision(100)).unwrap();
    let present = log.token();
    let at = |revision| Token {
        revision: Revision(revision),
        ..present
    };
    let strange = Token {
        store_id: StoreId::from_uuid(Uuid::from_u128(1)),
        ..present
    };
    let unknown = Token {
        start: Start(present.start.0 ^ 1),
        ..present
    };
    for (problem, token) in [
        (Problem::UnknownStore, strange),
        (Problem::UnknownStart, unknown),
        (Problem::PastStart, first),
        (Problem::Future, at(303)),
        (Problem::TooOld, at(99)),
    ] {
        let status = watch(log.clone(), ALL, after(&token)).err().expect("refused");
        assert_eq!(status.code(), Code::OutOfRange, "{problem:?}");
        let range = history_range_of(&status).unwrap();
        assert_eq!(range.problem(), problem);
        assert_eq!(range.oldest_token.parse(), Ok(at(100)));
        assert_eq!(range.current_token.parse(), Ok(present));
        let (fault, _) = status::fault_of(&status).unwrap();
        assert_eq!(fault.code, common::FaultCode::TokenOutOfRange);
    }
    for token in [
        at(100),
        at(302),
        Token {
            revision: Revision(300),
            ..first
        },
    ] {
        assert!(watch(log.clone(), ALL, after(&token)).is_ok(), "{token}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_fed_from_the_store_and_misses_nothing() {
    let log = new_log();
    let mut stream = watch(log.clone(), ALL, from_now()).unwrap();
    opened(&mut stream).await;
    let last = 40_000;
    notes(&log, 1..=last);
    for id in 1..=last {
        assert_eq!(changes(&mut stream).await.1, [id]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_the_history_falls_out() {
    let store = MemoryStore::new();
    let log = log_of(store.clone());
    let mut stream = watch(log.clone(), ALL, from_now()).unwrap();
    opened(&mut stream).await;
    notes(&log, 1..=40_000);
    while store.trim(Revision(1_000)).unwrap() {}
    let status = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(history_range_of(&status).unwrap().problem(), Problem::TooOld);
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn shutdown_says_closing_then_unavailable_and_takes_no_more() {
    let log = new_log();
    let mut idle = watch(log.clone(), ALL, from_now()).unwrap();
    opened(&mut idle).await;
    let closer = log.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        closer.close(Reason::Shutdown);
    });
    let Frame::Closing(closing) = frame(&mut idle).await else {
        panic!("closing");
    };
    assert_eq!(closing.reason(), Reason::Shutdown);
    assert_eq!(closing.token.parse(), Ok(log.token()));
    let status = next(&mut idle).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(next(&mut idle).await.is_none());
    let refused = watch(log, ALL, from_now()).err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
}

/// A feed whose store takes its time.
struct Slow(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl runtime::watch::Feed for Slow {
    type History = EngineHistory;

    fn changes(&self, entry: &runtime::log::Entry<EngineHistory>) -> Result<Vec<Bytes>, store::StoreError> {
        ALL.changes(entry)
    }

    fn snapshot(
        &self,
        reader: &dyn store::Reader,
        after: Option<&[u8]>,
    ) -> Result<runtime::watch::Page, store::StoreError> {
        // Until the test says so.
        let _ = self.0.lock().unwrap().recv();
        ALL.snapshot(reader, after)
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn selects(&self, task_id: TaskId) -> bool {
        ALL.selects(task_id)
    }
}

/// Whoever takes a silent stream for a dead one would begin anew for as long as the disk is slow.
#[tokio::test]
async fn while_a_snapshot_is_read_the_stream_shows_that_it_lives() {
    let log = new_log();
    notes(&log, 1..=1);
    let (go_on, told) = std::sync::mpsc::channel();
    // A time that is paused stands still while a thread reads.
    let start = proto::task::v1::WatchStart { start: None };
    let terms = Terms {
        heartbeat: Duration::from_millis(100),
        max_age: MAX_AGE,
    };
    let options = WatchOptions::read(Some(&start), None, None, false, terms).unwrap();
    let mut stream = watch(log.clone(), Slow(told.into()), options).unwrap();
    let mut frame = async || read(&next(&mut stream).await.unwrap().unwrap());
    assert!(matches!(frame().await, Frame::Opened(_)));
    for _ in 0..5 {
        let Frame::Heartbeat(beat) = frame().await else {
            panic!("a heartbeat");
        };
        assert_eq!(beat.token, "", "no point to resume after");
    }
    go_on.send(()).unwrap();
    loop {
        match frame().await {
            Frame::Heartbeat(beat) => assert_eq!(beat.token, ""),
            Frame::Snapshot(Snapshot { items }) => assert_eq!(items.len(), 1),
            Frame::SnapshotDone(_) => break,
            other => panic!("{other:?}"),
        }
    }
}

/// What only the store has is read on a disk that may take its time, again and again.
#[tokio::test]
async fn while_an_old_history_is_read_the_stream_shows_that_it_lives() {
    let store = MemoryStore::new();
    let log = log_of(store.clone());
    let begin = log.token();
    notes(&log, 1..=3);
    let slow = FailingStore::wrap(store);
    // Of a service that was started since: nothing of before is in memory.
    let log = log_of(slow.clone());
    slow.block_history();
    let start = proto::task::v1::WatchStart {
        start: Some(From::After(begin.to_string())),
    };
    let terms = Terms {
        heartbeat: Duration::from_millis(100),
        max_age: MAX_AGE,
    };
    let options = WatchOptions::read(Some(&start), None, None, false, terms).unwrap();
    let mut stream = watch(log.clone(), ALL, options).unwrap();
    let mut frame = async || read(&next(&mut stream).await.unwrap().unwrap());
    assert!(matches!(frame().await, Frame::Opened(_)));
    for _ in 0..5 {
        let Frame::Heartbeat(beat) = frame().await else {
            panic!("a heartbeat");
        };
        assert_eq!(token(&beat.token), Some(begin), "as far as it has told");
    }
    slow.unblock_history();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match frame().await {
            Frame::Heartbeat(_) => {}
            Frame::Changes(Changes { items, .. }) => seen.extend(items.iter().map(|item| item.event_id)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_ends_well() {
    let log = new_log();
    let mut stream = watch(log.clone(), ALL, from_now()).unwrap();
    let begun = tokio::time::Instant::now();
    let closing = loop {
        match frame(&mut stream).await {
            Frame::Closing(closing) => break closing,
            Frame::Opened(_) | Frame::Heartbeat(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(closing.reason(), Reason::MaxAge);
    assert_eq!(closing.token.parse(), Ok(log.token()));
    assert!((54..=66).contains(&(begun.elapsed().as_secs() / 60)));
    assert!(next(&mut stream).await.is_none(), "OK, no error");
}

#[tokio::test(start_paused = true)]
async fn samples_are_merged_to_the_newest_and_come_five_times_a_second_at_most() {
    let log = new_log();
    let mut stream = watch(log.clone(), ALL, options(Some(From::Now(())), true)).unwrap();
    opened(&mut stream).await;
    let task = TaskId::from_uuid(Uuid::from_u128(1));
    let reporter = log.clone();
    tokio::spawn(async move {
        for done in 1..=1_000 {
            reporter.progress().report(task, done, 1_000);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let begun = tokio::time::Instant::now();
    let mut frames = 0;
    let mut last = 0;
    while last < 1_000 {
        let Frame::Progress(samples) = frame(&mut stream).await else {
            panic!("samples");
        };
        assert_eq!(samples.items.len(), 1);
        assert!(samples.items[0].done_bytes > last);
        last = samples.items[0].done_bytes;
        frames += 1;
    }
    let most = begun.elapsed().as_millis() / 200 + 1;
    assert!((4..=most).contains(&frames), "{frames} frames");
    // The others are left in peace.
    let mut quiet = watch(log, ALL, from_now()).unwrap();
    opened(&mut quiet).await;
    assert!(matches!(frame(&mut quiet).await, Frame::Heartbeat(_)));
}

#[tokio::test]
async fn changed_wakes_for_what_is_new_and_for_the_end() {
    let log = new_log();
    let waiting = log.clone();
    let wait = tokio::spawn(async move { waiting.changed(Revision(1)).await });
    notes(&log, 1..=1);
    tokio::task::yield_now().await;
    assert!(!wait.is_finished());
    notes(&log, 2..=2);
    crate::support::patient(wait).await.unwrap();
    let waiting = log.clone();
    let wait = tokio::spawn(async move { waiting.changed(Revision(9)).await });
    log.close(Reason::Shutdown);
    crate::support::patient(wait).await.unwrap();
}

/// As a revision of a newer version, or a damaged one: in memory, and from the store.
#[tokio::test(start_paused = true)]
async fn a_revision_that_cannot_be_read_sends_its_watch_to_a_snapshot_and_sticks_nobody() {
    let log = new_log();
    let mut stream = watch(log.clone(), ALICE, from_now()).unwrap();
    opened(&mut stream).await;
    notes(&log, 1..=1);
    let (_, ids, before) = changes(&mut stream).await;
    assert_eq!(ids, [1]);
    let damaged = Change {
        history: EngineHistory {
            events: vec![Bytes::from_static(b"\xff")],
            ..EngineHistory::default()
        },
        writes: Vec::new(),
    };
    record_change(&log, damaged);
    notes(&log, 3..=3);
    let is_damaged = |status: &tonic::Status| {
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        assert_eq!(history_range_of(status).unwrap().problem(), Problem::Damaged);
    };
    is_damaged(&next(&mut stream).await.unwrap().unwrap_err());
    assert!(next(&mut stream).await.is_none());

    let mut again = watch(log.clone(), ALICE, after(&before.unwrap())).unwrap();
    opened(&mut again).await;
    is_damaged(&next(&mut again).await.unwrap().unwrap_err());
    let mut anew = watch(log.clone(), ALICE, options(Some(From::Snapshot(())), false)).unwrap();
    opened(&mut anew).await;
    while !matches!(frame(&mut anew).await, Frame::SnapshotDone(_)) {}
    notes(&log, 4..=4);
    assert_eq!(changes(&mut anew).await.1, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_row_of_the_history_that_is_no_message_is_out_of_range_too() {
    let store = MemoryStore::new();
    let garbage = store::Commit {
        revision: Revision(1),
        time: common::time::Timestamp(0),
        history: b"\xff\xff".to_vec(),
        writes: Vec::new(),
    };
    store.commit([garbage].into()).unwrap();
    let log = log_of(store.clone());
    let start = Token {
        store_id: store.identity().store_id,
        start: store.identity().start,
        revision: Revision(0),
    };
    let mut stream = watch(log, ALL, after(&start)).unwrap();
    opened(&mut stream).await;
    let status = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!(history_range_of(&status).unwrap().problem(), Problem::Damaged);
}

//! A small machine that notes events, a feed that shows them, and patience.

use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::id::TaskId;
use common::revision::{Revision, Token};
use common::time::Timestamp;
use futures_core::Stream;
use prost::Message as _;
use proto::encode;
use proto::encoded::v1::WatchResponse;
use proto::engine::v1 as engine;
use proto::engine::v1::watch_events_response::Frame;
use proto::store::v1::EngineHistory;
use runtime::log::{Entry, Log};
use runtime::machine::{Change, Machine, Step};
use runtime::watch::{Feed, MAX_AGE, Page, Terms, WatchOptions, WatchStream, selected};
use store::disk::Owner;
use store::{Commit, Order, Reader, Store, StoreError, Table, Write};

/// Whose the stores of these tests are.
pub(crate) const OWNER: Owner = Owner::service("test-svc");

pub(crate) const EVENTS: Table = Table("events");

/// Long enough for a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails a test that would hang.
pub(crate) async fn patient<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Asks again until it is so.
/// Looks for longer than the minute after which an idle coordinator trims.
pub(crate) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never so: {what}");
}

pub(crate) fn event(id: u64, user: &str, size: usize) -> engine::Event {
    engine::Event {
        event_id: id,
        user: user.to_owned(),
        message: "x".repeat(size),
        ..Default::default()
    }
}

pub(crate) fn write_of(event: &engine::Event) -> Write {
    Write {
        table: EVENTS,
        key: event.event_id.to_be_bytes().to_vec(),
        value: Some(event.encode_to_vec()),
    }
}

pub(crate) fn change_of(events: Vec<engine::Event>) -> Change<EngineHistory> {
    Change {
        writes: events.iter().map(write_of).collect(),
        history: EngineHistory {
            events: events.iter().map(encode::once).collect(),
            ..Default::default()
        },
    }
}

/// Commits and publishes without a coordinator, one revision a call.
pub(crate) fn record(log: &Log<EngineHistory>, events: Vec<engine::Event>) -> Revision {
    record_change(log, change_of(events))
}

/// The same of any change.
pub(crate) fn record_change(log: &Log<EngineHistory>, change: Change<EngineHistory>) -> Revision {
    let revision = log.current().next();
    let time = Timestamp(i64::try_from(revision.0).unwrap());
    log.store()
        .commit(
            [Commit {
                revision,
                time,
                history: change.history.encode_to_vec(),
                writes: change.writes,
            }]
            .into(),
        )
        .unwrap();
    log.publish(vec![Entry {
        revision,
        start: log.identity().start,
        time,
        bytes: change.history.encoded_len(),
        history: change.history,
        durable_at: None,
    }]);
    log.wake();
    revision
}

/// Notes events; its state is how many it has noted.
pub(crate) struct Notes {
    pub(crate) noted: u64,
    script: Script,
}

/// What a test wants of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// Its first input is a recovery.
    pub(crate) recovers: bool,
    /// How many inputs it has taken, committed or not.
    pub(crate) stepped: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Notes one event.
    Note,
    /// Notes this many, each in a revision of its own.
    NoteMany(u64),
    /// Changes nothing.
    Look,
    /// What recovery notes.
    Recovered,
}

impl Machine for Notes {
    type Input = Input;
    type Reply = u64;
    type Effect = u64;
    type History = EngineHistory;
    type Seed = Script;

    fn load(reader: &dyn Reader, script: &Script) -> Result<Self, StoreError> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        Ok(Self {
            noted: reader.scan(EVENTS, all, Order::Ascending, usize::MAX)?.len() as u64,
            script: script.clone(),
        })
    }

    fn recover(&self) -> Option<Input> {
        self.script.recovers.then_some(Input::Recovered)
    }

    fn step(&mut self, input: Input, _now: Timestamp) -> Step<Self> {
        self.script.stepped.fetch_add(1, Ordering::SeqCst);
        let count = match input {
            Input::Look => 0,
            Input::Note | Input::Recovered => 1,
            Input::NoteMany(count) => count,
        };
        let ids = self.noted + 1..=self.noted + count;
        self.noted += count;
        Step {
            revisions: ids
                .clone()
                .map(|id| change_of(vec![event(id, "alice", 0)]))
                .collect(),
            effects: ids.collect(),
            reply: self.noted,
        }
    }

    fn label(input: &Input) -> String {
        match input {
            Input::Note => "note",
            Input::NoteMany(_) => "note_many",
            Input::Look => "look",
            Input::Recovered => "recovered",
        }
        .to_owned()
    }
}

/// Shows the events of one user, or of all.
pub(crate) struct Events {
    pub(crate) user: Option<&'static str>,
}

impl Events {
    fn selects(&self, event: &engine::Event) -> bool {
        self.user.is_none_or(|user| event.user == user)
    }
}

impl Feed for Events {
    type History = EngineHistory;

    fn changes(&self, entry: &Entry<EngineHistory>) -> Result<Vec<Bytes>, StoreError> {
        selected(&entry.history.events, self.user.is_none(), |event| {
            self.selects(event)
        })
    }

    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError> {
        const RECORDS: usize = 100;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = reader.scan(EVENTS, (from, Bound::Unbounded), Order::Ascending, RECORDS)?;
        let events = found
            .iter()
            .map(|(_, value)| engine::Event::decode(value.as_slice()).unwrap());
        Ok(Page::of(
            events.filter(|event| self.selects(event)),
            (found.len() == RECORDS).then(|| found.last().unwrap().0.clone()),
        ))
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn selects(&self, _task_id: TaskId) -> bool {
        true
    }
}

/// A frame as a client of `WatchEvents` reads it.
pub(crate) fn read(response: &WatchResponse) -> Frame {
    let read = engine::WatchEventsResponse::decode(response.encode_to_vec().as_slice()).unwrap();
    assert_eq!(
        read.encode_to_vec(),
        response.encode_to_vec(),
        "nothing is left over"
    );
    read.frame.unwrap()
}

/// The next frame; none at the end of the stream.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    patient(std::future::poll_fn(|context| {
        std::pin::Pin::new(&mut *stream).poll_next(context)
    }))
    .await
}

pub(crate) async fn frame(stream: &mut WatchStream<Events>) -> Frame {
    read(&next(stream).await.expect("a frame").expect("no error"))
}

pub(crate) fn options(start: Option<proto::task::v1::watch_start::Start>, progress: bool) -> WatchOptions {
    let start = proto::task::v1::WatchStart { start };
    let terms = Terms {
        heartbeat: Duration::from_secs(5),
        max_age: MAX_AGE,
    };
    WatchOptions::read(Some(&start), None, None, progress, terms).unwrap()
}

pub(crate) fn from_now() -> WatchOptions {
    options(Some(proto::task::v1::watch_start::Start::Now(())), false)
}

pub(crate) fn after(token: &Token) -> WatchOptions {
    options(
        Some(proto::task::v1::watch_start::Start::After(token.to_string())),
        false,
    )
}

pub(crate) fn log_of(store: Arc<dyn Store>) -> Arc<Log<EngineHistory>> {
    Log::new(store).unwrap()
}

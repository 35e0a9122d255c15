//! Random histories, random cuts and restarts: every selected change exactly once and in order, as a client that
//! resumes after its last token sees it.

use std::sync::Arc;

use common::revision::{Revision, Token};
use doubles::memory::{Disk, MemoryStore};
use proptest::prelude::*;
use proto::engine::v1::watch_events_response::Frame;
use proto::store::v1::EngineHistory;
use runtime::log::Log;
use runtime::watch::{WatchStream, watch};

use crate::support::{Events, after, event, frame, log_of, options, record};

#[derive(Debug, Clone)]
enum Act {
    /// One revision: per item whether it is selected, and how large it is.
    Commit(Vec<(bool, usize)>),
    /// The client takes some frames.
    Take(usize),
    /// The connection is cut; the client resumes.
    Cut,
    /// The service is killed and starts again: what was in memory is only in the store now.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let item = (
        any::<bool>(),
        prop_oneof![9 => 0..100usize, 1 => 300_000..1_200_000usize],
    );
    prop_oneof![
        6 => proptest::collection::vec(item, 0..5).prop_map(Act::Commit),
        4 => (1..6usize).prop_map(Act::Take),
        2 => Just(Act::Cut),
        1 => Just(Act::Restart),
    ]
}

/// A client that keeps what it was sent and its last token.
struct Client {
    stream: WatchStream<Events>,
    token: Option<Token>,
    seen: Vec<u64>,
    /// Pieces of a revision whose last has not come yet.
    pending: Vec<u64>,
}

impl Client {
    fn open(log: &Arc<Log<EngineHistory>>, token: Option<Token>) -> WatchStream<Events> {
        let options = token.map_or_else(|| options(None, false), |token| after(&token));
        watch(log.clone(), Events { user: Some("alice") }, options).unwrap()
    }

    fn resume(&mut self, log: &Arc<Log<EngineHistory>>) {
        self.stream = Self::open(log, self.token);
        // Pieces without a token are sent again; so is a snapshot that was not complete.
        self.pending.clear();
    }

    /// Takes a frame; says up to where the client knows everything.
    async fn take(&mut self) -> Option<Revision> {
        let (items, token) = match frame(&mut self.stream).await {
            Frame::Opened(_) => return None,
            Frame::Snapshot(page) => (page.items, None),
            Frame::SnapshotDone(done) => (Vec::new(), Some(done.token.parse().unwrap())),
            Frame::Changes(changes) => {
                assert_eq!(changes.token.is_empty(), changes.more);
                assert!(!changes.items.is_empty());
                let token = (!changes.more).then(|| changes.token.parse().unwrap());
                (changes.items, token)
            }
            Frame::Heartbeat(beat) => {
                assert!(self.pending.is_empty(), "no heartbeat within a revision");
                (Vec::new(), Some(beat.token.parse().unwrap()))
            }
            other => panic!("{other:?}"),
        };
        self.pending.extend(items.iter().map(|item| item.event_id));
        self.token = token.or(self.token);
        if token.is_some() {
            self.seen.append(&mut self.pending);
        }
        token.map(|token| token.revision)
    }
}

async fn run(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let disk = Disk::new();
    let mut log = log_of(MemoryStore::open(disk.clone()));
    let mut client = Client {
        stream: Client::open(&log, None),
        token: None,
        seen: Vec::new(),
        pending: Vec::new(),
    };
    let mut last_id = 0;
    let mut expected = Vec::new();
    for act in acts {
        match act {
            Act::Commit(items) => {
                let mut events = Vec::new();
                for (selected, size) in items {
                    last_id += 1;
                    events.push(event(last_id, if selected { "alice" } else { "bob" }, size));
                    expected.extend(selected.then_some(last_id));
                }
                record(&log, events);
            }
            Act::Take(frames) => {
                for _ in 0..frames {
                    client.take().await;
                }
            }
            Act::Cut => client.resume(&log),
            Act::Restart => {
                log = log_of(MemoryStore::open(disk.clone()));
                client.resume(&log);
            }
        }
    }
    // A heartbeat proves that nothing is missing.
    while client.take().await != Some(log.current()) {}
    prop_assert_eq!(client.seen, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_selected_change_is_seen_once_and_in_order(acts in proptest::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(acts))?;
    }
}

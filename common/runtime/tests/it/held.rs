//! What a watch holds in memory for a client that takes nothing of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::FaultCode;
use common::id::TaskId;
use doubles::memory::MemoryStore;
use proto::encode;
use proto::engine::v1 as engine;
use proto::engine::v1::event_service_client::EventServiceClient;
use proto::engine::v1::event_service_server::{EventService, EventServiceServer};
use proto::engine::v1::watch_events_response::Frame;
use proto::store::v1::EngineHistory;
use runtime::log::{Entry, Log};
use runtime::metrics::Meters;
use runtime::server::{Health, Limits, Listening, serve};
use runtime::watch::{Feed, Page, WatchStream, watch};
use runtime::{client, served, status};
use store::{Reader, StoreError};
use tempfile::TempDir;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{event, log_of, options, patient};

const MIB: usize = 1 << 20;

/// How many bytes of items there are now, and were at most.
#[derive(Debug, Default)]
struct Live {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// An item, counted for as long as anybody has it.
struct Item {
    bytes: Bytes,
    live: Arc<Live>,
}

impl Item {
    fn counted(bytes: &Bytes, live: &Arc<Live>) -> Bytes {
        let now = live.now.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        live.most.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Self {
            bytes: bytes.clone(),
            live: Arc::clone(live),
        })
    }
}

impl AsRef<[u8]> for Item {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.live.now.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

/// A snapshot of one page of 2 MiB.
struct Heavy {
    item: Bytes,
    live: Arc<Live>,
}

impl Feed for Heavy {
    type History = EngineHistory;

    fn changes(&self, _entry: &Entry<EngineHistory>) -> Result<Vec<Bytes>, StoreError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, _reader: &dyn Reader, _after: Option<&[u8]>) -> Result<Page, StoreError> {
        let items = (0..128).map(|_| Item::counted(&self.item, &self.live)).collect();
        Ok(Page { items, next: None })
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn selects(&self, _task_id: TaskId) -> bool {
        true
    }
}

struct Service {
    log: Arc<Log<EngineHistory>>,
    item: Bytes,
    live: Arc<Live>,
}

#[tonic::async_trait]
impl EventService for Service {
    async fn list_events(
        &self,
        _request: Request<engine::ListEventsRequest>,
    ) -> Result<Response<engine::ListEventsResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    type WatchEventsStream = WatchStream<Heavy>;

    async fn watch_events(
        &self,
        _request: Request<engine::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let feed = Heavy {
            item: self.item.clone(),
            live: Arc::clone(&self.live),
        };
        Ok(Response::new(watch(
            Arc::clone(&self.log),
            feed,
            options(None, false),
        )?))
    }
}

async fn start(live: &Arc<Live>) -> (SocketAddr, TempDir) {
    let dir = TempDir::new().unwrap();
    let log = log_of(MemoryStore::new());
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), dir.path()).unwrap();
    let address = listening.address();
    let service = Service {
        log,
        item: encode::once(&event(1, "alice", 16 << 10)),
        live: Arc::clone(live),
    };
    let routes = tonic::service::Routes::new(served!(EventServiceServer::new(service)));
    let health = Health::new(&["vdsm_engine.engine.v1.EventService"]).await;
    let limits = Limits {
        max_held_mib: 8,
        ..Limits::default()
    };
    tokio::spawn(async move {
        let never = std::future::pending();
        serve(
            listening,
            routes,
            health,
            limits,
            &Meters::new(false),
            never,
            || {},
        )
        .await
        .unwrap();
    });
    (address, dir)
}

/// Watches whose client takes no more than so many bytes of each.
async fn takes_nothing(
    address: SocketAddr,
    window: u32,
    watches: usize,
) -> Vec<Streaming<engine::WatchEventsResponse>> {
    let endpoint = client::endpoint(&address.to_string()).unwrap();
    let channel = patient(endpoint.initial_stream_window_size(window).connect())
        .await
        .unwrap();
    let calls: Vec<_> = (0..watches)
        .map(|_| {
            let mut client = EventServiceClient::new(channel.clone());
            tokio::spawn(async move { client.watch_events(engine::WatchEventsRequest::default()).await })
        })
        .collect();
    let mut streams = Vec::new();
    for call in calls {
        // Where there is no room for it, one ends before it has begun.
        if let Ok(stream) = patient(call).await.unwrap() {
            streams.push(stream.into_inner());
        }
    }
    streams
}

/// How many items a client gets that takes all of them.
async fn takes_all(client: &mut EventServiceClient<tonic::transport::Channel>) -> Result<usize, Status> {
    let request = engine::WatchEventsRequest::default();
    let mut stream = patient(client.watch_events(request)).await?.into_inner();
    let mut items = 0;
    while let Some(message) = patient(stream.message()).await? {
        match message.frame {
            Some(Frame::Snapshot(page)) => items += page.items.len(),
            Some(Frame::SnapshotDone(_)) => return Ok(items),
            _ => {}
        }
    }
    panic!("it ends without its snapshot")
}

/// A thousand watches, each of which might hold 2 MiB: with a window of 0 not even the first frame is taken, with one of
/// 100 bytes that one and nothing of the snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_nobody_takes_hold_no_more_than_the_account_allows() {
    for (window, most) in [(0, 8 * MIB), (100, 24 * MIB)] {
        let live = Arc::default();
        let (address, _dir) = start(&live).await;
        let mut hostile = Vec::new();
        for _ in 0..4 {
            hostile.extend(takes_nothing(address, window, 250).await);
        }
        let endpoint = client::endpoint(&address.to_string()).unwrap();
        let mut honest = EventServiceClient::new(patient(endpoint.connect()).await.unwrap());
        // Reads have turns: while one that takes its items reads so often, the others would have read as well.
        let mut served = 0;
        for _ in 0..40 {
            match takes_all(&mut honest).await {
                Ok(items) => {
                    assert_eq!(items, 128);
                    served += 1;
                }
                Err(refused) => {
                    let (fault, _) = status::fault_of(&refused).unwrap();
                    assert_eq!(fault.code, FaultCode::TooManyRequests, "{refused}");
                }
            }
        }
        let held = live.most.load(Ordering::SeqCst);
        assert!(held <= most, "with a window of {window}: {} kB", held >> 10);
        assert!(window > 0 || served == 40, "{served} of 40 were served");
        drop(hostile);
    }
}

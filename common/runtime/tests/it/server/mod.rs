//! A server that is found, that says how it is, and that ends.

mod below;
mod bounds;
mod reflected;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doubles::memory::MemoryStore;
use proto::engine::v1 as engine;
use proto::engine::v1::event_service_client::EventServiceClient;
use proto::engine::v1::event_service_server::{EventService, EventServiceServer};
use proto::store::v1::EngineHistory;
use proto::task::v1::closing::Reason;
use runtime::log::Log;
use runtime::metrics::Meters;
use runtime::server::{Health, Limits, Listening, serve};
use runtime::watch::{WatchStream, watch};
use runtime::{client, reads, served, status};
use store::Table;
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::support::{Events, from_now, log_of, patient};

/// Page sizes by which the service is told to answer otherwise than with a refusal.
const NEVER: i32 = 7;
const LARGE: i32 = 8;
const READS: i32 = 9;
const GATED: i32 = 10;

/// Reads that wait until they are let go on: how many asked for one, who has begun, in this order, and whether they may.
#[derive(Default)]
struct Gate {
    asked: usize,
    begun: Vec<String>,
    open: bool,
}

static GATE: std::sync::Mutex<Gate> = std::sync::Mutex::new(Gate {
    asked: 0,
    begun: Vec::new(),
    open: false,
});
static GATE_OPENS: std::sync::Condvar = std::sync::Condvar::new();

/// A read that would go on for ever has ended.
static READ_ENDED: Notify = Notify::const_new();

const LARGE_BYTES: usize = 1 << 20;

struct Service(Arc<Log<EngineHistory>>);

#[tonic::async_trait]
impl EventService for Service {
    async fn list_events(
        &self,
        request: Request<engine::ListEventsRequest>,
    ) -> Result<Response<engine::ListEventsResponse>, Status> {
        let request = request.into_inner();
        match request.page_size {
            GATED => {
                GATE.lock().unwrap().asked += 1;
                let read = reads::on(self.0.store().clone(), |_| {
                    let mut gate = GATE.lock().unwrap();
                    gate.begun.push(request.page_token);
                    drop(GATE_OPENS.wait_while(gate, |gate| !gate.open));
                    Ok(())
                });
                read.await.map_err(status::from_store)?;
                return Ok(Response::new(engine::ListEventsResponse::default()));
            }
            NEVER => std::future::pending().await,
            READS => {
                let store = self.0.store().clone();
                let read = reads::on(store, |reader| {
                    loop {
                        if let Err(error) = reader.get(Table("none"), b"") {
                            READ_ENDED.notify_one();
                            return Err::<(), _>(error);
                        }
                    }
                });
                return Err(status::from_store(read.await.unwrap_err()));
            }
            LARGE => {
                return Ok(Response::new(engine::ListEventsResponse {
                    next_page_token: "x".repeat(LARGE_BYTES),
                    ..Default::default()
                }));
            }
            _ => {}
        }
        Err(status::from_fault(&common::Fault::invalid(
            "page_size",
            "is wrong",
        )))
    }

    type WatchEventsStream = WatchStream<Events>;

    async fn watch_events(
        &self,
        _request: Request<engine::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let stream = watch(self.0.clone(), Events { user: None }, from_now())?;
        Ok(Response::new(stream))
    }
}

struct Running {
    address: SocketAddr,
    log: Arc<Log<EngineHistory>>,
    health: Health,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    dir: TempDir,
}

const NAME: &str = "vdsm_engine.engine.v1.EventService";

async fn start() -> Running {
    start_with(Limits::default()).await
}

async fn start_with(limits: Limits) -> Running {
    let dir = TempDir::new().unwrap();
    let log = log_of(MemoryStore::new());
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), dir.path()).unwrap();
    let address = listening.address();
    let health = Health::new(&[NAME]).await;
    let routes = tonic::service::Routes::new(served!(EventServiceServer::new(Service(log.clone()))));
    let (stop, stopped) = oneshot::channel();
    let (served_health, closing) = (health.clone(), log.clone());
    let served = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        let close = || closing.close(Reason::Shutdown);
        serve(
            listening,
            routes,
            served_health,
            limits,
            &Meters::new(false),
            stopped,
            close,
        )
        .await
        .unwrap();
    });
    Running {
        address,
        log,
        health,
        stop,
        served,
        dir,
    }
}

async fn channel(address: SocketAddr) -> tonic::transport::Channel {
    let endpoint = client::endpoint(&address.to_string()).unwrap();
    patient(endpoint.connect()).await.unwrap()
}

async fn open(address: SocketAddr) -> Streaming<engine::WatchEventsResponse> {
    let mut client = EventServiceClient::new(channel(address).await);
    let request = engine::WatchEventsRequest::default();
    patient(client.watch_events(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_bound_address_is_written_when_it_listens_and_a_stale_one_goes_first() {
    let running = start().await;
    let file = running.dir.path().join("address");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        format!("{}\n", running.address)
    );
    // Taken: the file must not lead to a service that is not there.
    assert!(Listening::bind(running.address, running.dir.path()).is_err());
    assert!(!file.exists());
}

#[tokio::test]
async fn health_is_told_by_service_and_turns_at_shutdown() {
    let running = start().await;
    let mut health = HealthClient::new(channel(running.address).await);
    for service in ["", NAME] {
        for serving in [false, true] {
            running.health.set_serving(serving).await;
            let request = HealthCheckRequest {
                service: service.into(),
            };
            let answer = patient(health.check(request)).await.unwrap().into_inner();
            let expected = if serving {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            assert_eq!(answer.status(), expected);
        }
    }
}

#[tokio::test]
async fn both_reflections_know_the_services_and_the_details_of_errors() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
    use tonic_reflection::pb::v1alpha;
    let running = start().await;
    let symbols = [
        NAME,
        "grpc.health.v1.Health",
        "google.rpc.ErrorInfo",
        "vdsm_engine.task.v1.Fault",
    ];
    let mut client = ServerReflectionClient::new(channel(running.address).await);
    let ask = symbols.map(|symbol| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol.into())),
    });
    let mut answers = patient(client.server_reflection_info(tokio_stream::iter(ask)))
        .await
        .unwrap()
        .into_inner();
    for symbol in symbols {
        let answer = patient(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response;
        assert!(
            matches!(answer, Some(tonic_reflection::pb::v1::server_reflection_response::MessageResponse::FileDescriptorResponse(_))),
            "{symbol}"
        );
    }
    let mut old =
        v1alpha::server_reflection_client::ServerReflectionClient::new(channel(running.address).await);
    let ask = tokio_stream::iter([v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    }]);
    let mut answers = patient(old.server_reflection_info(ask))
        .await
        .unwrap()
        .into_inner();
    let answer = patient(answers.message()).await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains(NAME));
}

#[tokio::test]
async fn a_fault_reaches_the_client() {
    let running = start().await;
    let mut client = EventServiceClient::new(channel(running.address).await);
    let refused = patient(client.list_events(engine::ListEventsRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (fault, is_final) = status::fault_of(&refused).unwrap();
    assert_eq!((fault.subject.as_str(), is_final), ("page_size", false));
}

async fn ends_within_ten_seconds(running: Running) -> Duration {
    let begun = Instant::now();
    running.stop.send(()).unwrap();
    patient(running.served).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_thousand_open_streams_ends_them_all_and_itself() {
    let mut quickest = Duration::MAX;
    // A busy machine may be late, but not each time.
    for _ in 0..5 {
        let running = start().await;
        let readers = a_thousand_streams(running.address).await;
        quickest = quickest.min(ends_within_ten_seconds(running).await);
        for reader in readers {
            assert_eq!(patient(reader).await.unwrap(), ["closing", "Unavailable"]);
        }
        if quickest < Duration::from_secs(4) {
            break;
        }
    }
    assert!(
        quickest < Duration::from_secs(4),
        "no client was forced: {quickest:?}"
    );
}

/// Some connections, as from that many clients, with many streams each: what each stream says until it ends.
async fn a_thousand_streams(address: SocketAddr) -> Vec<JoinHandle<Vec<String>>> {
    let mut streams = Vec::new();
    for _ in 0..10 {
        let channel = channel(address).await;
        for _ in 0..100 {
            let mut client = EventServiceClient::new(channel.clone());
            let request = engine::WatchEventsRequest::default();
            let mut stream = patient(client.watch_events(request)).await.unwrap().into_inner();
            patient(stream.message()).await.unwrap().expect("opened");
            streams.push(stream);
        }
    }
    streams
        .into_iter()
        .map(|stream| tokio::spawn(to_the_end(stream)))
        .collect()
}

async fn to_the_end(mut stream: Streaming<engine::WatchEventsResponse>) -> Vec<String> {
    use engine::watch_events_response::Frame as Wire;
    let mut seen = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => match message.frame {
                Some(Wire::Closing(_)) => seen.push("closing".to_owned()),
                // One that was opened long before the last.
                Some(Wire::Heartbeat(_)) => {}
                _ => seen.push("other".to_owned()),
            },
            Ok(None) => return seen,
            Err(status) => {
                seen.push(format!("{:?}", status.code()));
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_hold_up_the_end() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let running = start().await;
    let mut client = ServerReflectionClient::new(channel(running.address).await);
    // Open as long as the client's side is: the server does not end it by itself.
    let endless = tokio_stream::pending::<ServerReflectionRequest>();
    let _open = patient(client.server_reflection_info(endless)).await.unwrap();
    let _stream = open(running.address).await;
    assert!(running.log.closed().is_none());
    ends_within_ten_seconds(running).await;
}

//! A server that is found, that says how it is, and that ends.

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
use runtime::{client, compressed, reads, status};
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
    let routes = tonic::service::Routes::new(compressed!(EventServiceServer::new(Service(log.clone()))));
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

mod below {
    //! What is refused below the handlers.

    use bytes::{BufMut as _, Bytes, BytesMut};
    use common::FaultCode;
    use http_body_util::{BodyExt as _, Full};
    use tower_service::Service as _;

    use super::*;

    fn framed(compressed: u8, length: usize, message: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(compressed);
        bytes.put_u32(u32::try_from(length).unwrap());
        bytes.put_slice(message);
        bytes.freeze()
    }

    fn message(message: &[u8]) -> Bytes {
        framed(0, message.len(), message)
    }

    /// How a call ends whose request is these very bytes.
    async fn ends(
        address: SocketAddr,
        path: &str,
        metadata: &[(&'static str, &'static str)],
        body: Bytes,
    ) -> Status {
        let mut request = http::Request::post(format!("http://{address}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(tonic::body::Body::new(Full::new(body))).unwrap();
        let mut channel = channel(address).await;
        patient(std::future::poll_fn(|context| channel.poll_ready(context)))
            .await
            .unwrap();
        let response = patient(channel.call(request)).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let collected = patient(response.into_body().collect()).await.unwrap();
        Status::from_header_map(collected.trailers().unwrap()).unwrap()
    }

    const LONG: &str = match std::str::from_utf8(&[b'a'; 20_000]) {
        Ok(long) => long,
        Err(_) => "",
    };

    const LIST: &str = "/vdsm_engine.engine.v1.EventService/ListEvents";

    /// What is wrong, the path, the metadata, the request; and how it is refused.
    type Case = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        Bytes,
        Code,
        FaultCode,
    );

    #[tokio::test]
    async fn each_refusal_has_a_fault_and_the_status_of_its_kind() {
        let running = start().await;
        let large = 5 << 20;
        let gzip: &'static [_] = &[("grpc-encoding", "gzip")];
        // An unfinished varint; a text that is none, in field 2; a message that ends early.
        let cases: [Case; 14] = [
            (
                "two messages",
                LIST,
                &[],
                Bytes::from([message(b""), message(b"")].concat()),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "two times",
                LIST,
                &[("grpc-timeout", "1S"), ("grpc-timeout", "1S")],
                message(b""),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "too much metadata",
                LIST,
                &[("x-a", LONG), ("x-b", LONG), ("x-c", LONG)],
                message(b""),
                Code::ResourceExhausted,
                FaultCode::MessageTooLarge,
            ),
            (
                "too large",
                LIST,
                &[],
                framed(0, large, b""),
                Code::ResourceExhausted,
                FaultCode::MessageTooLarge,
            ),
            (
                "no protobuf",
                LIST,
                &[],
                message(b"\x08\xff"),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "no UTF-8",
                LIST,
                &[],
                message(b"\x1a\x02\xff\xfe"),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "cut off",
                LIST,
                &[],
                framed(0, 10, b"\x08"),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "none",
                LIST,
                &[],
                Bytes::new(),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "no gzip",
                LIST,
                gzip,
                framed(1, 3, b"abc"),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "no encoding",
                LIST,
                &[],
                framed(1, 3, b"abc"),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "another encoding",
                LIST,
                &[("grpc-encoding", "snappy")],
                framed(1, 3, b"abc"),
                Code::Unimplemented,
                FaultCode::CompressionUnsupported,
            ),
            (
                "no time",
                LIST,
                &[("grpc-timeout", "soon")],
                message(b""),
                Code::InvalidArgument,
                FaultCode::InvalidArgument,
            ),
            (
                "no such method",
                "/vdsm_engine.engine.v1.EventService/Moon",
                &[],
                message(b""),
                Code::Unimplemented,
                FaultCode::MethodUnknown,
            ),
            (
                "another's service",
                "/vdsm_engine.host.v1.TaskService/ListTasks",
                &[],
                message(b""),
                Code::Unimplemented,
                FaultCode::MethodUnknown,
            ),
        ];
        for (what, path, metadata, body, code, fault_code) in cases {
            let status = ends(running.address, path, metadata, body).await;
            assert_eq!(status.code(), code, "{what}: {status:?}");
            let (fault, _) = status::fault_of(&status).unwrap_or_else(|| panic!("{what}: no fault"));
            assert_eq!(fault.code, fault_code, "{what}");
            assert!(!fault.message.is_empty(), "{what}");
        }
    }

    #[tokio::test]
    async fn what_is_no_call_of_grpc_has_a_status_of_http_and_a_fault() {
        let running = start().await;
        let mut channel = channel(running.address).await;
        for (method, content, expected) in [
            ("POST", "application/grpc+proto", 200),
            ("GET", "application/grpc", 405),
            ("DELETE", "application/grpc", 405),
            ("POST", "application/json", 415),
            ("POST", "application/grpc-web", 415),
        ] {
            let request = http::Request::builder()
                .method(method)
                .uri(format!("http://{}{LIST}", running.address))
                .header("content-type", content)
                .body(tonic::body::Body::new(Full::new(message(b""))))
                .unwrap();
            patient(std::future::poll_fn(|context| channel.poll_ready(context)))
                .await
                .unwrap();
            let response = patient(channel.call(request)).await.unwrap();
            assert_eq!(response.status(), expected, "{method} {content}");
            let status = Status::from_header_map(response.headers()).unwrap();
            let (fault, _) = status::fault_of(&status).unwrap();
            assert_eq!(fault.code, FaultCode::InvalidArgument, "{method} {content}");
            let is_refused_by_its_head = expected != 200;
            assert_eq!(fault.message.contains("nothing was done"), is_refused_by_its_head);
        }
    }

    /// It begins a message and does not end it. The server answers, and then tells the client to send no more: a client that
    /// sees both at once may say only that it was stopped, so one of a few must say what it was answered.
    #[tokio::test]
    async fn a_request_that_did_not_come_whole_did_nothing_and_its_deadline_says_so() {
        let running = start_with(Limits {
            request_seconds: 1,
            ..Limits::default()
        })
        .await;
        for _ in 0..20 {
            let mut channel = channel(running.address).await;
            let begun = tokio_stream::once(Ok::<_, Status>(http_body::Frame::data(framed(0, 10, b"\x08"))));
            let body = tokio_stream::StreamExt::chain(begun, tokio_stream::pending());
            let request = http::Request::post(format!("http://{}{LIST}", running.address))
                .header("content-type", "application/grpc")
                .body(tonic::body::Body::new(http_body_util::StreamBody::new(body)))
                .unwrap();
            patient(std::future::poll_fn(|context| channel.poll_ready(context)))
                .await
                .unwrap();
            let Ok(response) = patient(channel.call(request)).await else {
                continue;
            };
            let status = Status::from_header_map(response.headers()).unwrap();
            let (fault, _) = status::fault_of(&status).unwrap();
            assert_eq!(fault.code, FaultCode::DeadlineExceeded);
            assert!(fault.message.contains("nothing was done"), "{}", fault.message);
            return;
        }
        panic!("no client was told");
    }

    #[tokio::test]
    async fn an_unknown_service_is_refused_by_health_with_a_fault() {
        let running = start().await;
        let mut health = HealthClient::new(channel(running.address).await);
        let request = HealthCheckRequest {
            service: "moon".into(),
        };
        let refused = patient(health.check(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(
            status::fault_of(&refused).unwrap().0.code,
            FaultCode::EntityNotFound
        );
    }

    #[tokio::test]
    async fn what_is_not_answered_in_time_is_a_deadline_with_a_fault() {
        let limits = Limits {
            request_seconds: 1,
            ..Limits::default()
        };
        let running = start_with(limits).await;
        let mut client = EventServiceClient::new(channel(running.address).await);
        let request = engine::ListEventsRequest {
            page_size: NEVER,
            ..Default::default()
        };
        let late = patient(client.list_events(request)).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert_eq!(
            status::fault_of(&late).unwrap().0.code,
            FaultCode::DeadlineExceeded
        );
    }

    #[tokio::test]
    async fn gzip_is_read_and_sent_where_the_client_asks() {
        let running = start().await;
        let channel = channel(running.address).await;
        let request = engine::ListEventsRequest {
            page_size: LARGE,
            ..Default::default()
        };
        let mut plain = EventServiceClient::new(channel.clone());
        let answer = patient(plain.list_events(request.clone())).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding"), None);
        let mut zipped = compressed!(EventServiceClient::new(channel));
        let answer = patient(zipped.list_events(request)).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
        assert_eq!(answer.into_inner().next_page_token.len(), LARGE_BYTES);
        // Refusals and streams as well.
        let refused = patient(zipped.list_events(engine::ListEventsRequest::default()))
            .await
            .unwrap_err();
        assert!(status::fault_of(&refused).is_some());
        let stream = patient(zipped.watch_events(engine::WatchEventsRequest::default()))
            .await
            .unwrap();
        assert_eq!(stream.metadata().get("grpc-encoding").unwrap(), "gzip");
        patient(stream.into_inner().message())
            .await
            .unwrap()
            .expect("opened");
    }
}

mod bounds {
    //! What clients may use, and who is served when others use too much.

    use common::FaultCode;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    fn request(page_size: i32) -> engine::ListEventsRequest {
        engine::ListEventsRequest {
            page_size,
            ..Default::default()
        }
    }

    /// Whether the service answers on this connection, however it answers.
    async fn is_served(channel: &tonic::transport::Channel) -> bool {
        let mut client = EventServiceClient::new(channel.clone());
        let refused = patient(client.list_events(request(0))).await.unwrap_err();
        status::fault_of(&refused).is_some_and(|(fault, _)| fault.subject == "page_size")
    }

    async fn is_closed(mut connection: TcpStream) {
        let mut rest = Vec::new();
        // By an end or by a reset.
        let _ = patient(connection.read_to_end(&mut rest)).await;
    }

    #[tokio::test]
    async fn a_connection_that_never_speaks_is_closed_in_time() {
        let running = start_with(Limits {
            handshake_seconds: 1,
            ..Limits::default()
        })
        .await;
        is_closed(TcpStream::connect(running.address).await.unwrap()).await;
        assert!(is_served(&channel(running.address).await).await);
    }

    #[tokio::test]
    async fn silent_connections_make_room_for_one_that_speaks() {
        for limits in [
            Limits {
                max_connections: 3,
                ..Limits::default()
            },
            Limits {
                max_connections_per_peer: 3,
                ..Limits::default()
            },
        ] {
            let running = start_with(limits).await;
            let mut silent = Vec::new();
            for _ in 0..20 {
                silent.push(TcpStream::connect(running.address).await.unwrap());
            }
            let honest = channel(running.address).await;
            assert!(is_served(&honest).await);
            is_closed(silent.remove(0)).await;
            assert!(is_served(&honest).await);
        }
    }

    #[tokio::test]
    async fn a_connection_too_many_is_told_so_where_all_others_are_used() {
        for limits in [
            Limits {
                max_connections: 2,
                ..Limits::default()
            },
            Limits {
                max_connections_per_peer: 2,
                ..Limits::default()
            },
        ] {
            let running = start_with(limits).await;
            let first = open(running.address).await;
            let _second = open(running.address).await;
            let mut third = EventServiceClient::new(channel(running.address).await);
            let refused = patient(third.list_events(request(0))).await.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted);
            assert_eq!(
                status::fault_of(&refused).unwrap().0.code,
                FaultCode::TooManyConnections
            );
            drop(first);
            patient(async {
                while !is_served(&channel(running.address).await).await {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_call_too_many_of_its_kind_is_refused_and_those_of_other_kinds_go_on() {
        let running = start_with(Limits {
            max_requests: 2,
            max_watches: 2,
            ..Limits::default()
        })
        .await;
        let busy = channel(running.address).await;
        let honest = channel(running.address).await;
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let mut client = EventServiceClient::new(busy.clone());
            hanging.spawn(async move { client.list_events(request(NEVER)).await.unwrap_err() });
        }
        // Two hang, so the one that is over was refused.
        let refused = patient(hanging.join_next()).await.unwrap().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let (fault, _) = status::fault_of(&refused).unwrap();
        assert_eq!(fault.code, FaultCode::TooManyRequests);
        assert!(fault.message.contains("--max-requests"), "{}", fault.message);
        let first = open(running.address).await;
        let _second = open(running.address).await;
        let mut watcher = EventServiceClient::new(honest.clone());
        let request = engine::WatchEventsRequest::default();
        // One that has none gets one, whatever the others have.
        let own = patient(watcher.watch_events(request.clone())).await.unwrap();
        let refused = patient(watcher.watch_events(request.clone())).await.unwrap_err();
        assert_eq!(
            status::fault_of(&refused).unwrap().0.code,
            FaultCode::TooManyRequests
        );
        // What was cancelled takes no place any more.
        drop((hanging, first, own));
        patient(async {
            while !is_served(&honest).await || watcher.watch_events(request.clone()).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn answers_that_are_not_taken_are_bounded_and_give_way() {
        let running = start_with(Limits {
            max_held_mib: 8,
            ..Limits::default()
        })
        .await;
        let mut takers = Vec::new();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 {
            // No byte of an answer may be sent to it.
            let endpoint = client::endpoint(&running.address.to_string()).unwrap();
            let channel = patient(endpoint.initial_stream_window_size(0).connect())
                .await
                .unwrap();
            for _ in 0..10 {
                let mut client = EventServiceClient::new(channel.clone());
                calls.spawn(async move { client.list_events(request(LARGE)).await });
            }
            takers.push(channel);
        }
        // Thirty answers of 1 MiB do not fit into 8: some are refused at once, or their connections are closed.
        patient(calls.join_next()).await.unwrap().unwrap().unwrap_err();
        // Who takes its answers is served, by and by: those who don't give way.
        let mut honest = EventServiceClient::new(channel(running.address).await);
        patient(async {
            while let Err(refused) = honest.list_events(request(LARGE)).await {
                assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Requests of 4 MiB whose heads have come and nothing else.
    #[tokio::test]
    async fn requests_that_are_half_read_count_as_what_room_is_made_for() {
        use tower_service::Service as _;
        let running = start_with(Limits {
            max_held_mib: 8,
            ..Limits::default()
        })
        .await;
        let mut channel = channel(running.address).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let mut head = vec![0];
            head.extend((4_u32 << 20).to_be_bytes());
            let begun = Ok::<_, Status>(http_body::Frame::data(bytes::Bytes::from(head)));
            let body = http_body_util::StreamBody::new(Begun(Some(begun)));
            let uri = format!("http://{}/{NAME}/ListEvents", running.address);
            let request = http::Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(tonic::body::Body::new(body))
                .unwrap();
            patient(std::future::poll_fn(|context| channel.poll_ready(context)))
                .await
                .unwrap();
            calls.spawn(channel.call(request));
        }
        // Two wait for their rest, so the one that is over was refused.
        let response = patient(calls.join_next()).await.unwrap().unwrap().unwrap();
        let refused = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let (fault, _) = status::fault_of(&refused).unwrap();
        assert_eq!(fault.code, FaultCode::TooManyRequests);
        assert!(fault.message.contains("--max-held-mib"), "{fault}");
        drop(calls);
        assert!(is_served(&channel).await);
    }

    /// One item, and then nothing, and no end.
    struct Begun<T>(Option<T>);

    impl<T: Unpin> futures_core::Stream for Begun<T> {
        type Item = T;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            match self.0.take() {
                Some(item) => std::task::Poll::Ready(Some(item)),
                None => std::task::Poll::Pending,
            }
        }
    }

    #[tokio::test]
    async fn a_connection_has_so_many_calls_at_once_and_others_wait_for_their_turn() {
        let running = start_with(Limits {
            max_calls_per_connection: 2,
            ..Limits::default()
        })
        .await;
        let busy = channel(running.address).await;
        let mut client = EventServiceClient::new(busy.clone());
        let request = engine::WatchEventsRequest::default();
        let first = patient(client.watch_events(request.clone())).await.unwrap();
        let _second = patient(client.watch_events(request)).await.unwrap();
        // Its client has been told: the third does not begin.
        let third = tokio::time::timeout(Duration::from_millis(500), is_served(&busy));
        assert!(third.await.is_err());
        assert!(is_served(&channel(running.address).await).await);
        drop(first);
        assert!(is_served(&busy).await);
    }

    /// What a listener says that has a connection for the first one who asks, and no file for another.
    struct Short {
        one: Option<tokio::io::DuplexStream>,
        asked: Arc<std::sync::atomic::AtomicUsize>,
    }

    impl futures_core::Stream for Short {
        type Item = Result<tokio::io::DuplexStream, std::io::Error>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(match self.one.take() {
                Some(one) => Some(Ok(one)),
                None if self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 1_000 => {
                    Some(Err(std::io::Error::from_raw_os_error(24)))
                }
                // It spins.
                None => None,
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_file_is_left_it_pauses_says_so_and_the_silent_make_room() {
        let (mut client, one) = tokio::io::duplex(64);
        let asked = Arc::default();
        let short = Short {
            one: Some(one),
            asked: Arc::clone(&asked),
        };
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        let listening = Listening::over(short, "127.0.0.1:1".parse().unwrap());
        let health = Health::new(&[NAME]).await;
        let service = Service(log_of(MemoryStore::new()));
        let routes = tonic::service::Routes::new(EventServiceServer::new(service));
        let (mut rest, mut is_closed) = (Vec::new(), false);
        let second = async {
            // Long before it would have been silent for too long.
            let closed = tokio::time::timeout(Duration::from_secs(1), client.read_to_end(&mut rest));
            is_closed = closed.await.is_ok();
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        serve(
            listening,
            routes,
            health,
            Limits::default(),
            &Meters::new(false),
            second,
            || {},
        )
        .await
        .unwrap();
        let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
        assert!((5..=20).contains(&asked), "it asked {asked} times in a second");
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches("cannot accept connections").count(), 1, "{said}");
        assert!(is_closed, "the silent one keeps its file");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_read_ends_when_its_caller_has_gone_or_its_time_is_over() {
        let running = start_with(Limits {
            request_seconds: 1,
            ..Limits::default()
        })
        .await;
        let channel = channel(running.address).await;
        let mut client = EventServiceClient::new(channel.clone());
        let cancelled = tokio::time::timeout(Duration::from_millis(300), client.list_events(request(READS)));
        assert!(cancelled.await.is_err());
        patient(READ_ENDED.notified()).await;
        let late = patient(client.list_events(request(READS))).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        patient(READ_ENDED.notified()).await;
        assert!(is_served(&channel).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_list_of_another_connection_goes_ahead_of_those_that_wait() {
        let running = start_with(Limits {
            max_long_reads: 1,
            ..Limits::default()
        })
        .await;
        let gated = |name: &str| engine::ListEventsRequest {
            page_size: GATED,
            page_token: name.to_owned(),
            ..Default::default()
        };
        let asked = async |count: usize| {
            patient(async {
                while GATE.lock().unwrap().asked < count {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        };
        let mut calls = tokio::task::JoinSet::new();
        let costly = channel(running.address).await;
        for _ in 0..100 {
            let mut client = EventServiceClient::new(costly.clone());
            let request = gated("costly");
            calls.spawn(async move { client.list_events(request).await });
        }
        asked(100).await;
        let mut honest = EventServiceClient::new(channel(running.address).await);
        let request = gated("honest");
        calls.spawn(async move { honest.list_events(request).await });
        asked(101).await;
        // One that was asked for waits for its turn: nothing lies between.
        GATE.lock().unwrap().open = true;
        GATE_OPENS.notify_all();
        while let Some(answered) = patient(calls.join_next()).await {
            answered.unwrap().unwrap();
        }
        let begun = std::mem::take(&mut GATE.lock().unwrap().begun);
        let place = begun.iter().position(|name| name == "honest");
        // One had its turn when it came.
        assert_eq!((begun.len(), place), (101, Some(1)));
    }

    #[tokio::test]
    async fn an_answer_that_is_never_taken_ends_its_connection() {
        let running = start_with(Limits {
            request_seconds: 1,
            ..Limits::default()
        })
        .await;
        let endpoint = client::endpoint(&running.address.to_string()).unwrap();
        let channel = patient(endpoint.initial_stream_window_size(0).connect())
            .await
            .unwrap();
        let mut client = EventServiceClient::new(channel);
        let ended = patient(client.list_events(request(LARGE))).await.unwrap_err();
        assert_ne!(ended.code(), Code::Ok);
    }
}

mod reflected {
    //! What reflection tells.

    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Asked;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;

    use super::*;

    #[tokio::test]
    async fn what_is_unknown_is_an_error_in_its_place_and_the_stream_goes_on() {
        let running = start().await;
        let mut client = ServerReflectionClient::new(channel(running.address).await);
        let asked = [
            Some(Asked::FileContainingSymbol("moon.Phase".into())),
            Some(Asked::FileContainingSymbol("moon.Phase".repeat(100))),
            Some(Asked::FileContainingSymbol("m".repeat(100_000))),
            Some(Asked::FileByFilename("moon.proto".into())),
            Some(Asked::FileContainingSymbol(
                "vdsm_engine.host.v1.TaskService".into(),
            )),
            None,
            Some(Asked::ListServices(String::new())),
        ];
        let requests = asked.map(|message_request| ServerReflectionRequest {
            host: String::new(),
            message_request,
        });
        let answers = client.server_reflection_info(tokio_stream::iter(requests));
        let mut answers = patient(answers).await.unwrap().into_inner();
        for code in [
            Code::NotFound,
            Code::NotFound,
            Code::InvalidArgument,
            Code::NotFound,
            Code::NotFound,
            Code::InvalidArgument,
        ] {
            let answer = patient(answers.message()).await.unwrap().unwrap();
            assert!(
                prost::Message::encoded_len(&answer) < 8 << 10,
                "a question is not said again at any length"
            );
            match answer.message_response {
                Some(Answer::ErrorResponse(error)) => {
                    assert_eq!(Code::from(error.error_code), code);
                    assert!(error.error_message.len() <= 1_024, "{}", error.error_message);
                }
                other => panic!("{other:?}"),
            }
        }
        let listed = match patient(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response
        {
            Some(Answer::ListServicesResponse(listed)) => listed,
            other => panic!("{other:?}"),
        };
        let names: Vec<&str> = listed
            .service
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                NAME,
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection"
            ]
        );
    }
}

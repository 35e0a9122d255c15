//! What clients may use, and who is served when others use too much.

use common::FaultCode;
use runtime::server::LARGEST_MESSAGE;
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

/// Requests as large as they may be, whose heads have come and nothing else.
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
    let fit = (8 << 20) / LARGEST_MESSAGE;
    for _ in 0..fit {
        let mut head = vec![0];
        head.extend(u32::try_from(LARGEST_MESSAGE).unwrap().to_be_bytes());
        let begun = Ok::<_, Status>(http_body::Frame::data(bytes::Bytes::from(head)));
        let body = http_body_util::StreamBody::new(Begun(Some(begun)));
        // Requests for lists are small.
        let uri = format!("http://{}/grpc.health.v1.Health/Check", running.address);
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
    // With their heads they do not fit: the others wait for their rest, so the one that is over was refused.
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

/// On one thread: a call that has counted itself waits for its turn before anybody sees the count.
#[tokio::test]
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

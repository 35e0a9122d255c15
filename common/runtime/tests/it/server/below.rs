//! What is refused below the handlers.

use bytes::{BufMut as _, Bytes, BytesMut};
use common::FaultCode;
use http_body_util::{BodyExt as _, Full};
use runtime::server::{GZIP, LARGEST_MESSAGE};
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

fn zipped(message: &[u8]) -> Vec<u8> {
    let mut zipped = Vec::new();
    let mut reader = flate2::read::GzEncoder::new(message, flate2::Compression::best());
    std::io::Read::read_to_end(&mut reader, &mut zipped).unwrap();
    zipped
}

/// Field 4, with nothing in it: an empty disk, where a VM is created.
const EMPTY_ENTRY: [u8; 2] = [0x22, 0];

const CHECK: &str = "/grpc.health.v1.Health/Check";
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
    let zipped_larger = zipped(&EMPTY_ENTRY.repeat(LARGEST_MESSAGE / 2 + 1));
    let zipped = zipped(&[0; (64 << 10) + 1]);
    // An unfinished varint; a text that is none, in field 2; a message that ends early.
    let cases: [Case; 18] = [
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
            "much too large",
            LIST,
            &[],
            framed(0, large, b""),
            Code::ResourceExhausted,
            FaultCode::MessageTooLarge,
        ),
        (
            "too large",
            CHECK,
            &[],
            framed(0, LARGEST_MESSAGE + 1, b""),
            Code::ResourceExhausted,
            FaultCode::MessageTooLarge,
        ),
        (
            "too large once it is decompressed",
            CHECK,
            gzip,
            framed(1, zipped_larger.len(), &zipped_larger),
            Code::ResourceExhausted,
            FaultCode::MessageTooLarge,
        ),
        (
            "too large for a list",
            LIST,
            &[],
            framed(0, (64 << 10) + 1, b""),
            Code::ResourceExhausted,
            FaultCode::MessageTooLarge,
        ),
        (
            "too large for a list once it is decompressed",
            LIST,
            gzip,
            framed(1, zipped.len(), &zipped),
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
    let (fault, _) = status::fault_of(&refused).unwrap();
    assert_eq!(fault.code, FaultCode::EntityNotFound);
    assert!(fault.message.contains("moon"), "{fault}");
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
    let mut zipped = EventServiceClient::new(channel)
        .accept_compressed(GZIP)
        .send_compressed(GZIP);
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

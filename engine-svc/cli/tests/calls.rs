//! Which calls a command line makes: by a server that answers nothing and remembers what it was asked.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// The paths that were called, and who asked.
#[derive(Debug, Default)]
struct Asked {
    paths: BTreeSet<String>,
    users: BTreeSet<String>,
}

/// Refuses every call as one that is not served.
async fn serve(listener: TcpListener, asked: Arc<Mutex<Asked>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut asked = asked.lock().expect("nobody panics with it");
            asked
                .paths
                .insert(request.uri().path().trim_start_matches('/').to_owned());
            let user = request
                .headers()
                .get("x-user")
                .and_then(|user| user.to_str().ok());
            asked.users.extend(user.map(str::to_owned));
            let response = http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "12")
                .header("grpc-message", "not%20served")
                .body(http_body_util::Empty::<bytes::Bytes>::new());
            async move { Ok::<_, Infallible>(response.expect("a response")) }
        });
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer),
        );
    }
}

fn taskctl(server: SocketAddr, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_taskctl"))
        .env_clear()
        .args(["--server", &server.to_string(), "--user", "alice"])
        .args(words.split(' '))
        .output()
        .expect("taskctl runs")
}

const ID: &str = "0E5B9D1C-94f4-4e5e-8a44-52e1f6f0ab03";

/// A line for each RPC of the engine.
const LINES: &[&str] = &[
    "vm create web-01",
    "vm list",
    "vm show ID",
    "vm remove ID",
    "disk create 10G --domain ID",
    "disk list",
    "disk show ID",
    "disk remove ID",
    "disk attach ID ID",
    "disk detach ID ID",
    "disk copy ID --domain ID",
    "disk extend ID 20G",
    "domain create data --host ID",
    "domain list",
    "domain show ID",
    "host add host-1 127.0.0.1:1 --id ID",
    "host list",
    "host show ID",
    "host remove ID",
    "host take-over ID --reason dead",
    "job list",
    "job show ID",
    "job watch",
    "job wait ID",
    "job cancel ID",
    "job retry ID",
    "job abandon ID --reason lost",
    "task list",
    "task show ID",
    "task watch",
    "event list",
    "event tail",
    "tree ID",
    "why ID",
    "whoami",
    "version",
];

/// RPCs that no line of their own is for, and what says the same.
const SAID_OTHERWISE: &[(&str, &str)] = &[(
    "vdsm_engine.engine.v1.CommandService/WatchCommands",
    "`job watch` shows the same changes as people see them",
)];

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_of_the_engine_is_reached_and_says_who_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Asked::default()));
    tokio::spawn(serve(listener, Arc::clone(&asked)));
    for line in LINES {
        let line = line.replace("ID", ID);
        let ended = tokio::task::spawn_blocking(move || (taskctl(server, &line), line));
        let (output, line) = ended.await.expect("it runs");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(6), "{line}: {words}");
        assert!(words.contains("not served"), "{line}: {words}");
        assert!(output.stdout.is_empty(), "{line}");
    }
    let asked = std::mem::take(&mut *asked.lock().expect("nobody panics with it"));
    assert_eq!(asked.users.into_iter().collect::<Vec<_>>(), ["alice"]);
    let pool = prost_reflect::DescriptorPool::decode(proto::DESCRIPTORS).expect("the contract");
    let served = pool
        .services()
        .filter(|service| service.full_name().starts_with("vdsm_engine.engine."));
    let all: BTreeSet<_> = served
        .flat_map(|service| {
            let methods = service
                .methods()
                .map(|method| format!("{}/{}", service.full_name(), method.name()));
            methods.collect::<Vec<_>>()
        })
        .collect();
    let otherwise = SAID_OTHERWISE
        .iter()
        .map(|(path, _)| (*path).to_owned())
        .collect();
    let missing: Vec<_> = all
        .difference(&asked.paths)
        .filter(|path| !BTreeSet::contains(&otherwise, *path))
        .collect();
    assert!(missing.is_empty(), "no command reaches {missing:?}");
    assert!(
        otherwise.is_disjoint(&asked.paths),
        "SAID_OTHERWISE names what is reached"
    );
}

#[test]
fn an_engine_that_is_not_there_is_told_from_one_that_refuses() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let output = taskctl(nobody, "--timeout 100ms ps");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{words}");
    assert!(
        words.contains("127.0.0.1:1 cannot be reached: Connection refused"),
        "{words}"
    );
}

#[test]
fn bad_usage_ends_before_anything_is_asked() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    for (line, part) in [
        ("disk create 10X --domain data", "`10X` is not a size"),
        ("disk show web-01", "`web-01` is not the ID of a disk"),
        ("vm create web-01 --disk 10G", "--domain"),
        ("job list --state lost", "needs-attention"),
        ("vm remove web-01 --lock-wait soon", "--lock-wait"),
        ("job abandon x", "--reason"),
    ] {
        let output = taskctl(nobody, line);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {words}");
        assert!(words.contains(part), "{line}: {words}");
    }
}

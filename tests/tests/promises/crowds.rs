//! Clients that use too much use up only their own share: others are served, and memory stays bounded.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::StreamBody;
use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::host::Connection;
use proto::engine::v1::job_service_client::JobServiceClient;
use proto::engine::v1::task_service_client::TaskServiceClient;
use proto::engine::v1::{
    GetCommandRequest, ListJobsRequest, ListTasksRequest, ListVmsRequest, WaitCommandRequest,
};
use tests::client::Engine;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::eventually;
use tests::{World, requests};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service as _;

use crate::streams::allow_many_files;

/// How much more memory than at rest a service may take, whatever its clients do.
const MORE_KIB: u64 = 200 << 10;

/// The longest time that an honest client may wait for an answer, except for one answer in a hundred.
const MOST: Duration = Duration::from_millis(200);

/// The wait must also not exceed this many times the wait while nobody else is there.
const TIMES: u32 = 10;

/// The number of rounds of an honest client: each has four calls, two of them lists, and half of them use a new
/// connection.
const ROUNDS: usize = 100;

/// There are fewer rounds if they take longer than this.
const AT_MOST: Duration = Duration::from_secs(30);

/// The pause between two rounds.
const THINKS: Duration = Duration::from_millis(20);

/// The memory of the engine: now, and its maximum so far.
fn memory_kib(world: &World) -> TestResult<(u64, u64)> {
    let pid = world.engine.pid().context("the engine does not run")?;
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let value = |key: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let found = value("VmRSS:").zip(value("VmHWM:"));
    found.context("no memory in the status")
}

/// How long an honest client waited for its answers, one figure for each call.
#[derive(Debug, Default)]
struct Waited {
    records: Vec<Duration>,
    lists: Vec<Duration>,
}

impl Waited {
    /// The time within which all but one in a hundred answers came, for both kinds of calls together.
    fn most(&self) -> Duration {
        let mut all = [self.records.as_slice(), self.lists.as_slice()].concat();
        all.sort();
        all[all.len() - 1 - all.len() / 100]
    }
}

impl std::fmt::Display for Waited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, waited) in [("records", &self.records), ("lists", &self.lists)] {
            let mut sorted = waited.clone();
            sorted.sort();
            let at = |part: usize| sorted[(sorted.len() - 1) * part / 100].as_secs_f64() * 1e3;
            write!(f, "{what} {:.1} / {:.1} / {:.1} ms, ", at(50), at(99), at(100))?;
        }
        write!(f, "p99 of all {:.1} ms", self.most().as_secs_f64() * 1e3)
    }
}

/// An honest client, for this many rounds: over its own connection, and over new ones.
async fn honest(world: &World, command_id: &str, rounds: usize) -> TestResult<Waited> {
    let mut waited = Waited::default();
    let begun = Instant::now();
    while waited.lists.len() < rounds * 2 && begun.elapsed() < AT_MOST {
        let fresh = Engine::at(world.engine.address())?;
        for client in [&world.client, &fresh] {
            let request = GetCommandRequest {
                command_id: command_id.to_owned(),
            };
            let begun = Instant::now();
            client.commands.clone().get_command(request).await?;
            waited.records.push(begun.elapsed());
            let begun = Instant::now();
            // A list may be refused with the advice to repeat it, and then it is answered.
            eventually("a list of VMs", || async {
                client.vms.clone().list_vms(ListVmsRequest::default()).await.ok()
            })
            .await?;
            waited.lists.push(begun.elapsed());
        }
        tokio::time::sleep(THINKS).await;
    }
    Ok(waited)
}

async fn connect(address: SocketAddr, window: Option<u32>) -> TestResult<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.initial_stream_window_size(window).connect().await?)
}

/// Opens connections that say nothing.
async fn silent(address: SocketAddr) -> TestResult<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..3_000 {
        connections.push(TcpStream::connect(address).await?);
    }
    Ok(connections)
}

/// Requests lists of tasks and never takes their answers.
async fn untaken(address: SocketAddr) -> TestResult<JoinSet<()>> {
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let channel = connect(address, Some(0)).await?;
        for _ in 0..750 {
            let mut client = TaskServiceClient::new(channel.clone());
            calls.spawn(async move {
                let request = ListTasksRequest {
                    page_size: 1_000,
                    ..Default::default()
                };
                let _ = client.list_tasks(request).await;
            });
        }
    }
    Ok(calls)
}

/// Messages as large as they may be, of which nearly all is sent: four times what fits.
async fn unfinished(address: SocketAddr) -> TestResult<JoinSet<()>> {
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let channel = connect(address, None).await?;
        for _ in 0..100 {
            let mut channel = channel.clone();
            calls.spawn(async move {
                let (sender, frames) = tokio::sync::mpsc::channel(1);
                let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
                let body = tonic::body::Body::new(StreamBody::new(frames));
                let path = "/vdsm_engine.engine.v1.VmService/CreateVm";
                let request = http::Request::post(format!("http://engine{path}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(body)
                    .expect("a request");
                let send = async move {
                    let head = vec![0, 0, 4, 0, 0];
                    let pieces = std::iter::once(head).chain(std::iter::repeat_n(vec![0; 64 << 10], 3));
                    for piece in pieces {
                        let frame = http_body::Frame::data(bytes::Bytes::from(piece));
                        if sender
                            .send(Ok::<_, std::convert::Infallible>(frame))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                if std::future::poll_fn(|context| channel.poll_ready(context))
                    .await
                    .is_ok()
                {
                    let _ = tokio::join!(channel.call(request), send);
                }
            });
        }
    }
    Ok(calls)
}

/// Requests expensive lists, one after the other.
async fn costly(address: SocketAddr) -> TestResult<JoinSet<()>> {
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let channel = connect(address, None).await?;
        for _ in 0..1_000 {
            let mut client = JobServiceClient::new(channel.clone());
            calls.spawn(async move {
                loop {
                    let request = ListJobsRequest {
                        page_size: 1_000,
                        ..Default::default()
                    };
                    if client.list_jobs(request).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
    }
    Ok(calls)
}

/// Clients that wait for a command that does not end.
async fn waits(address: SocketAddr, command_id: String) -> TestResult<JoinSet<()>> {
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let channel = connect(address, None).await?;
        for _ in 0..250 {
            let mut client = CommandServiceClient::new(channel.clone());
            let command_id = command_id.clone();
            calls.spawn(async move {
                let timeout = Some(prost_types::Duration {
                    seconds: 600,
                    nanos: 0,
                });
                let _ = client
                    .wait_command(WaitCommandRequest { command_id, timeout })
                    .await;
            });
        }
    }
    Ok(calls)
}

/// How far the crowd's thread yields to others, as `nice` measures it: to everybody who wants a processor.
const GIVES_WAY: i32 = 19;

/// A runtime of its own for the crowd. An honest client has a machine of its own, and so has the crowd; here they
/// share the service's processors. Therefore the crowd's thread runs only when nobody else wants to, so that an
/// honest client waits for the work that the crowd causes in the service, and not for the crowd's own work.
struct Crowd(Option<tokio::runtime::Runtime>);

impl Crowd {
    fn new() -> TestResult<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.on_thread_start(|| {
            rustix::process::nice(GIVES_WAY).expect("a thread may always give way");
        });
        Ok(Self(Some(builder.worker_threads(1).enable_all().build()?)))
    }

    async fn does<T: Send + 'static>(
        &self,
        what: impl Future<Output = TestResult<T>> + Send + 'static,
    ) -> TestResult<T> {
        let runtime = self.0.as_ref().context("the crowd has gone")?;
        runtime.spawn(what).await.map_err(Failure::new)?
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// This test takes the whole machine for a minute, and other programs would change its measurements.
/// `common/runtime/tests/it/server` tests one by one what this test does at once.
#[ignore = "wants the machine for itself: `make crowds`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_some_clients_use_up_others_are_served_and_memory_is_bounded() -> TestResult<()> {
    allow_many_files()?;
    let (mut world, domain) = World::furnished().await?;
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let mut command_id = String::new();
    for number in 0..20 {
        let disks = (0..64)
            .map(|_| requests::disk(&domain, requests::KINDS[0]))
            .collect();
        command_id = world
            .create_vm(&requests::create_vm(&format!("vm-{number}"), disks))
            .await?;
    }
    let address = world.engine.address();
    let (rest, _) = memory_kib(&world)?;
    let quiet = honest(&world, &command_id, ROUNDS).await?;
    println!("at rest: {} MiB; {quiet}", rest >> 10);
    let mut failures = Vec::new();
    let mut tell = async |what: &str| -> TestResult<()> {
        let waited = honest(&world, &command_id, ROUNDS)
            .await
            .context(what.to_owned())?;
        let (now, most) = memory_kib(&world)?;
        println!("{what}: {} MiB, {} MiB at most; {waited}", now >> 10, most >> 10);
        if most > rest + MORE_KIB {
            failures.push(format!("{what}: {most} KiB at most, {rest} at rest"));
        }
        if waited.most() > MOST.min(quiet.most() * TIMES) {
            failures.push(format!("{what}: {waited}, at rest {quiet}"));
        }
        Ok(())
    };
    let crowd = Crowd::new()?;
    let mut connections = silent(address).await?;
    tell("silent connections").await?;
    // The first connection has long made room.
    let mut first = connections.swap_remove(0);
    let mut end = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), first.read_to_end(&mut end)).await;
    ensure(closed.is_ok(), || "a silent connection stays".to_owned())?;
    drop(connections);
    let calls = crowd.does(untaken(address)).await?;
    tell("answers that nobody takes").await?;
    drop(calls);
    let calls = crowd.does(unfinished(address)).await?;
    tell("requests that are not finished").await?;
    drop(calls);
    let calls = crowd.does(costly(address)).await?;
    tell("costly lists").await?;
    drop(calls);
    tell("costly lists that were given up").await?;
    let calls = crowd.does(waits(address, command_id.clone())).await?;
    tell("waits").await?;
    drop(calls);
    ensure(failures.is_empty(), || failures.join("\n"))
}

//! Clients that use too much use up what is theirs: others are served, and memory stays bounded.

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
use tests::failure::{Context as _, Outcome, ensure};
use tests::patience::eventually;
use tests::{World, requests};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service as _;

use crate::streams::allow_many_files;

/// How much more memory than at rest a service may take, whatever its clients do.
const MORE_KIB: u64 = 256 << 10;

/// Memory of the engine: now, and at most so far.
fn memory_kib(world: &World) -> Outcome<(u64, u64)> {
    let pid = world.engine.pid().context("the engine does not run")?;
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let value = |key: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let found = value("VmRSS:").zip(value("VmHWM:"));
    found.context("no memory in the status")
}

/// An honest client: over its own connection, and over a new one.
async fn honest(world: &World, command_id: &str) -> Outcome<Duration> {
    let begun = Instant::now();
    let fresh = Engine::at(world.engine.address())?;
    for client in [&world.client, &fresh] {
        let request = GetCommandRequest {
            command_id: command_id.to_owned(),
        };
        client.commands.clone().get_command(request).await?;
        // A list may be told to come again, and then it is answered.
        eventually("a list of VMs", || async {
            client.vms.clone().list_vms(ListVmsRequest::default()).await.ok()
        })
        .await?;
    }
    Ok(begun.elapsed())
}

async fn connect(address: SocketAddr, window: Option<u32>) -> Outcome<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.initial_stream_window_size(window).connect().await?)
}

/// Connections that say nothing.
async fn silent(address: SocketAddr) -> Outcome<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..3_000 {
        connections.push(TcpStream::connect(address).await?);
    }
    Ok(connections)
}

/// Lists of tasks whose answers are never taken.
async fn untaken(address: SocketAddr) -> Outcome<JoinSet<()>> {
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

/// Messages of 4 MiB of which nearly all is sent.
async fn unfinished(address: SocketAddr) -> Outcome<JoinSet<()>> {
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
                    let head = vec![0, 0, 0x40, 0, 0];
                    let pieces = std::iter::once(head).chain(std::iter::repeat_n(vec![0; 64 << 10], 63));
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

/// Lists that cost much.
async fn costly(address: SocketAddr) -> Outcome<JoinSet<()>> {
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let channel = connect(address, None).await?;
        for _ in 0..1_000 {
            let mut client = JobServiceClient::new(channel.clone());
            calls.spawn(async move {
                let request = ListJobsRequest {
                    page_size: 1_000,
                    ..Default::default()
                };
                let _ = client.list_jobs(request).await;
            });
        }
    }
    Ok(calls)
}

/// Those who wait for a command that does not end.
async fn waits(address: SocketAddr, command_id: &str) -> Outcome<JoinSet<()>> {
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let channel = connect(address, None).await?;
        for _ in 0..250 {
            let mut client = CommandServiceClient::new(channel.clone());
            let command_id = command_id.to_owned();
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

/// It takes the whole machine for half a minute: what else runs then changes what it measures. What it tries at once,
/// `common/runtime/tests/it/server` tries one by one.
#[ignore = "wants the machine for itself: `make crowds`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_some_clients_use_up_others_are_served_and_memory_is_bounded() -> Outcome<()> {
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
    println!(
        "at rest {} MiB, honest {:?}",
        rest >> 10,
        honest(&world, &command_id).await?
    );
    let tell = async |what: &str, times: usize| -> Outcome<()> {
        for _ in 0..times {
            let took = honest(&world, &command_id).await.context(what.to_owned())?;
            let (now, most) = memory_kib(&world)?;
            println!(
                "{what}: honest {took:?}, {} MiB now, {} MiB at most",
                now >> 10,
                most >> 10
            );
            ensure(most < rest + MORE_KIB, || {
                format!("{what}: {most} KiB at most, {rest} at rest")
            })?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    };
    let mut connections = silent(address).await?;
    tell("silent connections", 2).await?;
    // The first has long made room.
    let mut first = connections.swap_remove(0);
    let mut end = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), first.read_to_end(&mut end)).await;
    ensure(closed.is_ok(), || "a silent connection stays".to_owned())?;
    drop(connections);
    let calls = untaken(address).await?;
    tell("answers that nobody takes", 3).await?;
    drop(calls);
    let calls = unfinished(address).await?;
    tell("requests that are not finished", 4).await?;
    drop(calls);
    let calls = costly(address).await?;
    tell("costly lists", 1).await?;
    drop(calls);
    tell("costly lists that were given up", 1).await?;
    let calls = waits(address, &command_id).await?;
    tell("waits", 2).await?;
    drop(calls);
    Ok(())
}

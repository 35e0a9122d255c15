//! From a host's state edge to an engine client's screen: the host's commit, its stream, the engine's commit, the
//! engine's stream; against the sum of two bare redb commits and two bare tonic stream hops.
//!
//! *Ours*: a real host and a real engine that follows it. One `noop` task after the other is started on the host, in
//! the engine's name; the engine shows it as a foreign one, through the same stream, step and commit as its own.
//! Both services stamp an input before its commit, so an edge's way is from `host_commit_time` to the moment at
//! which the client has it in hand.
//!
//! *Bare*: single commits of the same records to two databases, one after the other, and single changes on the
//! stream of another process. A sum takes one of each commit and two hops, each measured on its own and drawn by
//! turns, so that a slow moment of one is not always met by a slow moment of the others.

use std::time::{Duration, Instant};

use proto::engine::v1::{AsyncTask, Host};
use proto::task::v1::operation::Verb;
use proto::task::v1::{Noop, TaskState};
use proto::vdsm::v1::watch_tasks_response::Frame;
use proto::vdsm::v1::{GetHostInfoRequest, HostInfo, WatchTasksRequest};
use tests::client::{Host as HostClient, with_metadata};
use tests::fail_point::FailPoints;
use tests::{Context as _, Outcome, World, requests};

use super::front_door::start_bare;
use crate::bare::commit::{BareStore, Batch};
use crate::disk::in_micros;
use crate::rounds::{Bench, Round};
use crate::row::{Row, Target, Unit};
use crate::stats::quantile;
use crate::watcher::Watcher;
use crate::{clock, records};

/// How long each of the three parts of a round takes.
const WINDOW: Duration = Duration::from_millis(1_500);

/// Between two tasks: each edge is to find the services idle.
const PAUSE: Duration = Duration::from_millis(2);

/// Microseconds that single things took, ours and bare.
#[derive(Debug)]
struct Sample {
    ours: Vec<f64>,
    bare: Vec<f64>,
}

/// A line for the median and one for the slowest hundredth.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let world = World::start_below(&bench.fresh_dir("screen-ours")?).await?;
    world.furnish().await?;
    let mut bare = start_bare(bench)?;
    let hop = HostClient::at(bare.start(&FailPoints::default()).await?)?;
    let mut stores = [
        BareStore::create(&bench.fresh_dir("screen-bare-host")?)?,
        BareStore::create(&bench.fresh_dir("screen-bare-engine")?)?,
    ];
    let rounds = bench.alternate(async |_, _| {
        let (ours, edge) = edges_to_screen(&world).await?;
        let commits = single_commits(&mut stores, &edge)?;
        let hops = hops(&hop).await?;
        let bare = sums(&commits, &hops);
        Ok(Sample { ours, bare })
    });
    let rounds = rounds.await?;
    Ok(vec![
        row("screen, p50", 0.5, Target::RatioAtMost(1.5), &rounds),
        row("screen, p99", 0.99, Target::RatioAtMost(3.0), &rounds),
    ])
}

fn row(name: &str, q: f64, target: Target, rounds: &[Round<Sample>]) -> Row {
    let millis = |micros: &[f64]| quantile(micros, q) / 1e3;
    let figures = |sample: &Sample| (millis(&sample.ours), Some(millis(&sample.bare)));
    Row::new(name, Unit::Milliseconds, Some(target), rounds, figures)
}

/// How long each edge of some tasks took to the screen, and one of them.
async fn edges_to_screen(world: &World) -> Outcome<(Vec<f64>, AsyncTask)> {
    let info = world
        .host_client
        .host
        .clone()
        .get_host_info(GetHostInfoRequest {})
        .await?;
    let info = info
        .into_inner()
        .host
        .context("GetHostInfo answered without a host")?;
    let mut watcher = Watcher::open(&world.client).await?;
    let mut micros = Vec::new();
    let mut last = AsyncTask::default();
    let end = Instant::now() + WINDOW;
    while Instant::now() < end {
        start_noop(world, &info).await?;
        while last.state != i32::from(TaskState::Finished) {
            for task in watcher.changes().await? {
                if let Some(time) = &task.host_commit_time {
                    micros.push(clock::micros_since(time));
                }
                last = task;
            }
        }
        last.state = TaskState::Unspecified.into();
        tokio::time::sleep(PAUSE).await;
    }
    Ok((micros, last))
}

/// In the name of the engine that owns the host.
async fn start_noop(world: &World, info: &HostInfo) -> Outcome<()> {
    let epoch = info.engine_epoch.to_string();
    let metadata = [
        ("x-engine-id", info.engine_id.as_str()),
        ("x-engine-epoch", epoch.as_str()),
        ("x-store-id", info.store_id.as_str()),
    ];
    let request = with_metadata(requests::start_task(Verb::Noop(Noop {})), &metadata);
    let answer = world.host_client.tasks.clone().start_task(request).await;
    answer.context("StartTask").map(drop)
}

/// What commits of one revision each take, a host's and an engine's by turns.
fn single_commits(stores: &mut [BareStore; 2], edge: &AsyncTask) -> Outcome<Vec<f64>> {
    let host = Host {
        host_id: edge.host_id.clone(),
        cursor: records::TOKEN.to_owned(),
        store_id: edge.host_store_id.clone(),
        ..Host::default()
    };
    let task = records::host_task(edge.task_id.clone(), edge.operation.clone());
    let end = Instant::now() + WINDOW;
    let mut micros = Vec::new();
    for slot in 0.. {
        let revisions = [
            records::finished(slot, &task),
            records::engine_revision(slot, edge, &host),
        ];
        for (store, revision) in stores.iter_mut().zip(revisions) {
            let batch = Batch::new([revision]);
            let start = Instant::now();
            store.commit(&batch)?;
            micros.push(in_micros(start.elapsed()));
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(micros)
}

/// What single changes take on a bare stream.
async fn hops(bare: &HostClient) -> Outcome<Vec<f64>> {
    let stream = bare.tasks.clone().watch_tasks(WatchTasksRequest::default()).await;
    let mut stream = stream.context("the bare stream")?.into_inner();
    let mut micros = Vec::new();
    let end = Instant::now() + WINDOW;
    while Instant::now() < end {
        let message = stream.message().await?.context("the bare stream ended")?;
        if let Some(Frame::Changes(changes)) = message.frame {
            micros.extend(changes.commit_time.as_ref().map(clock::micros_since));
        }
    }
    Ok(micros)
}

/// Two neighbouring commits (a host's and an engine's) and two neighbouring hops each.
fn sums(commits: &[f64], hops: &[f64]) -> Vec<f64> {
    let pairs = hops.chunks_exact(2).cycle();
    let commits = commits.chunks_exact(2);
    commits
        .zip(pairs)
        .map(|(commits, hops)| commits.iter().chain(hops).sum())
        .collect()
}

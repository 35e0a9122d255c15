//! From a host's state edge to an engine client's screen: the host's commit, its stream, the engine's commit, the
//! engine's stream; against the sum of two bare redb commits and two bare tonic stream hops.
//!
//! *Ours*: a real host and a real engine that follows it. One task after the other is made on the host, in the
//! engine's name; the engine shows it as a foreign one, through the same stream, step and commit as its own.
//! Both services stamp an input before its commit, so an edge's way is from `host_commit_time` to the moment at
//! which the client has it in hand. Twice: *lone* edges find all idle and are followed by nothing: of a task that is
//! aborted before it was ever started, which is one commit of the host's. The edges of a `noop` follow each other
//! at once: its end is committed by the host while its beginning is by the engine, to one disk, and the bare sum
//! knows nothing of that.
//!
//! *Bare*: single commits of the same records to two databases, by turns, and single changes on the stream of another
//! process, each after as long a pause as ours. A sum takes one of each commit and two hops, each measured on its own and drawn by
//! turns, so that a slow moment of one is not always met by a slow moment of the others.

use std::time::{Duration, Instant};

use proto::engine::v1::{AsyncTask, Host};
use proto::host::v1::watch_tasks_response::Frame;
use proto::host::v1::{AbortTaskRequest, GetHostInfoRequest, HostInfo, WatchTasksRequest};
use proto::task::v1::operation::Verb;
use proto::task::v1::{Noop, TaskState};
use tests::client::{Host as HostClient, with_metadata};
use tests::fail_point::FailPoints;
use tests::ids::fresh;
use tests::{Context as _, TestResult, World, requests};
use tonic::Request;

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
    lone: Vec<f64>,
    close: Vec<f64>,
    bare: Vec<f64>,
}

/// Lines for the median and for the p99.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let world = World::start_below(&bench.fresh_dir("screen-ours")?).await?;
    world.furnish().await?;
    let mut bare = start_bare(bench)?;
    let hop = HostClient::at(bare.start(&FailPoints::default()).await?)?;
    let mut stores = [
        BareStore::create(&bench.fresh_dir("screen-bare-host")?)?,
        BareStore::create(&bench.fresh_dir("screen-bare-engine")?)?,
    ];
    let rounds = bench.alternate(async |_, _| {
        let (lone, _) = edges_to_screen(&world, lone_edges).await?;
        let (close, edge) = edges_to_screen(&world, noop).await?;
        let commits = single_commits(&mut stores, &edge).await?;
        let hops = hops(&hop).await?;
        let bare = sums(&commits, &hops);
        Ok(Sample { lone, close, bare })
    });
    let rounds = rounds.await?;
    let (p50, p99) = (Target::RatioAtMost(1.5), Target::RatioAtMost(3.0));
    let lone: Pick = |sample| &sample.lone;
    let close: Pick = |sample| &sample.close;
    Ok(vec![
        row("screen, lone edges, p50", 0.5, p50, &rounds, lone),
        row("screen, lone edges, p99", 0.99, p99, &rounds, lone),
        row("screen, edges close together, p50", 0.5, p50, &rounds, close),
        row("screen, edges close together, p99", 0.99, p99, &rounds, close),
    ])
}

/// Which of ours a row is about.
type Pick = fn(&Sample) -> &Vec<f64>;

fn row(name: &str, q: f64, target: Target, rounds: &[Round<Sample>], pick: Pick) -> Row {
    let millis = |micros: &[f64]| quantile(micros, q) / 1e3;
    let figures = |sample: &Sample| (millis(pick(sample)), Some(millis(&sample.bare)));
    Row::new(name, Unit::Milliseconds, Some(target), rounds, figures)
}

/// The client, and how long edges took to it.
struct Screen {
    watcher: Watcher,
    micros: Vec<f64>,
    last: AsyncTask,
}

impl Screen {
    /// Looks until a task is as wanted.
    async fn until(&mut self, wanted: impl Fn(&AsyncTask) -> bool) -> TestResult<()> {
        loop {
            let tasks = self.watcher.changes().await?;
            let times = tasks.iter().filter_map(|task| task.host_commit_time.as_ref());
            self.micros.extend(times.map(clock::micros_since));
            if let Some(found) = tasks.into_iter().find(&wanted) {
                self.last = found;
                return Ok(());
            }
        }
    }
}

/// How long the edges took to the screen that `make` makes, again and again; and one of them.
async fn edges_to_screen(
    world: &World,
    make: impl AsyncFn(&World, &HostInfo, &mut Screen) -> TestResult<()>,
) -> TestResult<(Vec<f64>, AsyncTask)> {
    let mut host = world.host_client.host.clone();
    let info = host
        .get_host_info(GetHostInfoRequest::default())
        .await?
        .into_inner();
    let info = info.host.context("GetHostInfo answered without a host")?;
    let mut screen = Screen {
        watcher: Watcher::open(&world.client).await?,
        micros: Vec::new(),
        last: AsyncTask::default(),
    };
    let end = Instant::now() + WINDOW;
    while Instant::now() < end {
        make(world, &info, &mut screen).await?;
    }
    Ok((screen.micros, screen.last))
}

/// INIT to RUNNING, and at once FINISHED.
async fn noop(world: &World, info: &HostInfo, screen: &mut Screen) -> TestResult<()> {
    let request = owned(requests::start_task(Verb::Noop(Noop {})), info);
    let answer = world.host_client.tasks.clone().start_task(request).await;
    answer.context("StartTask")?;
    screen
        .until(|task| task.state == i32::from(TaskState::Finished))
        .await?;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// INIT to RECOVERED, of a task that is aborted before it was ever started: the host is asked for nothing else.
async fn lone_edges(world: &World, info: &HostInfo, screen: &mut Screen) -> TestResult<()> {
    let request = AbortTaskRequest { task_id: fresh() };
    let answer = world
        .host_client
        .tasks
        .clone()
        .abort_task(owned(request, info))
        .await;
    answer.context("AbortTask")?;
    screen
        .until(|task| task.state == i32::from(TaskState::Recovered))
        .await?;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// In the name of the start of an engine that owns the host.
fn owned<T>(request: T, info: &HostInfo) -> Request<T> {
    let epoch = info.engine_epoch.to_string();
    let metadata = [
        ("x-engine-id", info.engine_id.as_str()),
        ("x-engine-epoch", epoch.as_str()),
        ("x-engine-incarnation", info.engine_incarnation.as_str()),
        ("x-store-id", info.store_id.as_str()),
    ];
    with_metadata(request, &metadata)
}

/// What commits of one revision each take, a host's and an engine's by turns. They find the disk as idle as ours do:
/// one right after the other would be quicker.
async fn single_commits(stores: &mut [BareStore; 2], edge: &AsyncTask) -> TestResult<Vec<f64>> {
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
            tokio::time::sleep(PAUSE).await;
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
async fn hops(bare: &HostClient) -> TestResult<Vec<f64>> {
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

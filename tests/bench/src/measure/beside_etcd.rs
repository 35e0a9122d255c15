//! Side by side with an etcd of the distribution's package on the same disk: its put, and the watcher that sees it.
//!
//! What is put is a task's record as a host keeps it, under a key of the task's id. *Front door*: `StartTask(noop)` on
//! a real host against puts, as many in flight, and meanwhile somebody watches all of it: how many a second, and how
//! long it took from the request to the watcher, at p99. *Edges*: from a simulated host through a real
//! engine to a watcher, so many of them under way; against as many puts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use proto::host::v1::WatchTasksRequest;
use proto::host::v1::watch_tasks_response::Frame;
use proto::task::v1::operation::Verb;
use proto::task::v1::{Noop, WatchStart, watch_start};
use tests::client::Host;
use tests::ids::fresh;
use tests::{Context as _, Failure, TestResult, requests};
use tokio::task::JoinSet;

use super::front_door::{WARM_UP, drive, start_host};
use crate::etcd::{self, Etcd};
use crate::fleet::Fleet;
use crate::load::Load;
use crate::records;
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};
use crate::sightings::Sightings;
use crate::stats::quantile;

/// Calls in flight, at least how many times etcd's rate, and at most which part of its p99.
const DOORS: [(usize, f64, f64); 4] = [(1, 1.0, 0.9), (8, 1.1, 0.75), (64, 1.2, 0.7), (256, 1.2, 0.05)];

/// Counted: longer than the p99 of any is, which a window must see. With 256 in flight some puts take
/// three seconds.
const WINDOW: Duration = Duration::from_secs(4);

/// Edges under way.
const WAITING: [usize; 2] = [64, 256];

const EDGES: Target = Target::RatioAtLeast(2.0);

/// 64 disks each, four edges a disk: a second or so of edges.
const VMS: usize = 100;

/// How many a second, and milliseconds of the p99.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rate: f64,
    p99: f64,
}

/// All lines.
///
/// # Errors
/// Where a service or a call fails, or there is no etcd.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let mut rows = Vec::new();
    for waiting in WAITING {
        let fleet = Fleet::start(&bench.fresh_dir("edges-ours")?, 1).await?;
        let rounds = bench.alternate(async |bench, _| {
            let ours = edges(&fleet, waiting).await?;
            let etcd = puts(bench, waiting).await?;
            Ok((ours, etcd.rate))
        });
        let name = format!("edges, {waiting} waiting / etcd");
        let figures = |sample: &(f64, f64)| (sample.0, Some(sample.1));
        rows.push(Row::new(
            name,
            Unit::PerSecond,
            Some(EDGES),
            &rounds.await?,
            figures,
        ));
    }
    for (in_flight, times, part) in DOORS {
        let rounds = bench.alternate(async |bench, _| {
            let ours = starts(bench, in_flight).await?;
            let etcd = puts(bench, in_flight).await?;
            Ok((ours, etcd))
        });
        let rounds = rounds.await?;
        let rates = |(ours, etcd): &(Pace, Pace)| (ours.rate, Some(etcd.rate));
        let p99s = |(ours, etcd): &(Pace, Pace)| (ours.p99, Some(etcd.p99));
        let (least, most) = (Some(Target::RatioAtLeast(times)), Some(Target::RatioAtMost(part)));
        let door = format!("front door, {in_flight} in flight / etcd");
        let watcher = format!("request to watcher, {in_flight} in flight, p99 / etcd");
        rows.push(Row::new(door, Unit::PerSecond, least, &rounds, rates));
        rows.push(Row::new(watcher, Unit::Milliseconds, most, &rounds, p99s));
    }
    Ok(rows)
}

/// Edges per second, with so many of them shown by the host and not yet seen.
async fn edges(fleet: &Fleet, waiting: usize) -> TestResult<f64> {
    let mut load = Load::prepare(fleet, 0..1, VMS).await?;
    let history = &fleet.hosts[0].history;
    let start = Instant::now();
    let mut held = history.show_more(waiting);
    let (mut shown, mut seen) = (waiting, 0);
    while seen < shown {
        let more = load.watcher.changes().await?.len();
        seen += more;
        let left = history.show_more(more);
        shown += held - left;
        held = left;
    }
    let rate = seen as f64 / start.elapsed().as_secs_f64();
    load.finish().await?;
    Ok(rate)
}

/// A host's.
async fn starts(bench: &mut Bench, in_flight: usize) -> TestResult<Pace> {
    let (mut host, dir) = start_host(bench).await?;
    let sightings = Arc::<Sightings>::default();
    let mut watcher = JoinSet::new();
    watcher.spawn(watch(&Host::at(host.address())?, Arc::clone(&sightings)).await?);
    let seen = Arc::clone(&sightings);
    let call = move |mut host: Host| {
        let sightings = Arc::clone(&seen);
        async move {
            let request = requests::start_task(Verb::Noop(Noop {}));
            sightings.sent(&request.task_id);
            host.tasks.start_task(request).await.context("StartTask")?;
            Ok(())
        }
    };
    let pace = pace(in_flight, &sightings, || Host::at(host.address()), call).await;
    drop(watcher);
    host.kill().await?;
    std::fs::remove_dir_all(dir)?;
    pace
}

/// Watches every task from now on: what is returned tells `sightings` of them.
async fn watch(
    host: &Host,
    sightings: Arc<Sightings>,
) -> TestResult<impl Future<Output = ()> + Send + 'static> {
    let request = WatchTasksRequest {
        start: Some(WatchStart {
            start: Some(watch_start::Start::Now(())),
        }),
        ..WatchTasksRequest::default()
    };
    let answer = host.tasks.clone().watch_tasks(request).await;
    let mut frames = answer.context("WatchTasks")?.into_inner();
    frames.message().await.context("WatchTasks")?;
    Ok(async move {
        while let Ok(Some(message)) = frames.message().await {
            if let Some(Frame::Changes(changes)) = message.frame {
                changes
                    .items
                    .iter()
                    .for_each(|task| sightings.seen(&task.task_id));
            }
        }
    })
}

/// etcd's.
async fn puts(bench: &mut Bench, in_flight: usize) -> TestResult<Pace> {
    let dir = bench.fresh_dir("etcd")?;
    let etcd = Etcd::start(&dir).await?;
    let sightings = Arc::<Sightings>::default();
    let mut watcher = JoinSet::new();
    watcher.spawn(etcd.watch(Arc::clone(&sightings)).await?);
    let seen = Arc::clone(&sightings);
    let call = move |mut client| {
        let sightings = Arc::clone(&seen);
        async move {
            let id = fresh();
            let record = records::host_task(id.clone(), Some(records::noop())).encode_to_vec();
            sightings.sent(&id);
            etcd::put(&mut client, &id, record).await
        }
    };
    let pace = pace(in_flight, &sightings, || etcd.client(), call).await;
    drop(watcher);
    drop(etcd);
    std::fs::remove_dir_all(dir)?;
    pace
}

/// Drives calls, and looks at what was seen of those in the window.
async fn pace<C, F>(
    in_flight: usize,
    sightings: &Arc<Sightings>,
    connect: impl Fn() -> TestResult<C>,
    call: impl Fn(C) -> F + Clone + Send + Sync + 'static,
) -> TestResult<Pace>
where
    C: Clone + Send + Sync + 'static,
    F: Future<Output = TestResult<()>> + Send + 'static,
{
    let warm = tokio::spawn({
        let sightings = Arc::clone(sightings);
        async move {
            tokio::time::sleep(WARM_UP).await;
            sightings.take();
        }
    });
    let rate = drive(in_flight, WINDOW, connect, call).await?;
    warm.await.map_err(Failure::new)?;
    let p99 = quantile(&sightings.take(), 0.99) / 1e3;
    Ok(Pace { rate, p99 })
}

//! What a hung host costs the edges of the others, and a watcher that does not read the other watchers: the slowest
//! hundredth, with and without.
//!
//! Two real engines with four simulated hosts each; 1,000 edges a second come from three of them to ten watchers of
//! the same engine, for a quarter of a second with the one, then with the other, in turn. In one of them the first
//! host's cable is pulled while it has work, so that its calls and its stream hang; or a watcher opens its stream and
//! reads nothing.
//!
//! A disk may stall for some milliseconds once a second, and one such stall decides the p99 of seconds of
//! edges. So what is judged is the median of the slices' p99s: what a neighbour costs is there in each of
//! them, a stall in few. The p99 of all slices together is shown beside it.

use std::time::Duration;

use proto::engine::v1::WatchTasksRequest;
use proto::task::v1::{WatchStart, watch_start};
use tests::client::Engine;
use tests::{Context as _, TestResult};

use crate::crowd::Crowd;
use crate::fleet::Fleet;
use crate::load::Load;
use crate::rounds::{Bench, Round};
use crate::row::{Row, Target, Unit};
use crate::stats::{median, quantile};

const HOSTS: usize = 4;

const BEAT: Duration = Duration::from_millis(1);

/// How long one of the two is loaded before it is the other's turn.
const SLICE: Duration = Duration::from_millis(250);

/// Of each of the two: all of them are over before the engine gives up a host that answers no ping.
const SLICES: usize = 16;

/// Before them: whoever does not read has more waiting by then than a connection holds.
const WARM_UP: Duration = Duration::from_millis(500);

/// VMs whose edges last for all that: 64 disks, four edges each.
const VMS: usize = 19;

/// Ten watchers on two connections.
const CROWD: (usize, usize) = (2, 5);

/// Milliseconds of the p99.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Of each slice: the median.
    usual: f64,
    /// Of all together.
    overall: f64,
}

/// Beside the neighbour, and alone.
type Pair = [Tail; 2];

/// Four lines.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let hung = bench.alternate(async |bench, _| {
        let beside = Fleet::start_behind_proxy(&bench.fresh_dir("hung-host")?, HOSTS).await?;
        let alone = Fleet::start(&bench.fresh_dir("no-hung-host")?, HOSTS).await?;
        let sides = [Side::of(&beside).await?, Side::of(&alone).await?];
        beside.proxy.as_ref().context("no proxy")?.freeze();
        // They are sent to it, and it never answers.
        beside.create_vms(0..1, 1).await?;
        by_turns(sides).await
    });
    let hung = hung.await?;
    let stalled = bench.alternate(async |bench, _| {
        let beside = Fleet::start(&bench.fresh_dir("stalled-watcher")?, HOSTS).await?;
        let alone = Fleet::start(&bench.fresh_dir("no-stalled-watcher")?, HOSTS).await?;
        let sides = [Side::of(&beside).await?, Side::of(&alone).await?];
        let client = Engine::at(beside.engine.address())?;
        let everything = WatchTasksRequest {
            start: Some(WatchStart {
                start: Some(watch_start::Start::Now(())),
            }),
            ..WatchTasksRequest::default()
        };
        let unread = client.tasks.clone().watch_tasks(everything).await;
        let unread = unread.context("WatchTasks")?;
        let pair = by_turns(sides).await?;
        drop(unread);
        Ok(pair)
    });
    let stalled = stalled.await?;
    Ok([
        rows("a hung host", 1.1, &hung),
        rows("a stalled watcher", 1.3, &stalled),
    ]
    .concat())
}

fn rows(neighbour: &str, limit: f64, rounds: &[Round<Pair>]) -> [Row; 2] {
    let row = |name: String, target: Option<Target>, pick: fn(&Tail) -> f64| {
        let figures = |[beside, alone]: &Pair| (pick(beside), Some(pick(alone)));
        Row::new(name, Unit::Milliseconds, target, rounds, figures)
    };
    let (name, target) = (format!("beside {neighbour}, p99"), Target::RatioAtMost(limit));
    let overall = format!("{name} with the disk's stalls");
    [
        row(name, Some(target), |tail| tail.usual)
            .noting("beside it is an engine that has no such neighbour, by turns with it"),
        row(overall, None, |tail| tail.overall),
    ]
}

/// An engine with edges that wait on all hosts but the first, and watchers.
struct Side<'a> {
    load: Load<'a>,
    crowd: Crowd,
    slices: Vec<Vec<f64>>,
}

impl<'a> Side<'a> {
    async fn of(fleet: &'a Fleet) -> TestResult<Self> {
        Ok(Self {
            load: Load::prepare(fleet, 1..HOSTS, VMS).await?,
            crowd: Crowd::gather(fleet.engine.address(), CROWD.0, CROWD.1).await?,
            slices: Vec::with_capacity(SLICES),
        })
    }

    /// The microseconds of each edge to each watcher.
    async fn run(&self, time: Duration) -> TestResult<Vec<f64>> {
        let edges = self.load.pace(BEAT, time).await;
        self.crowd.saw(edges * CROWD.0 * CROWD.1).await
    }

    async fn finish(self) -> TestResult<Tail> {
        drop(self.crowd);
        self.load.finish().await?;
        let p99 = |micros: &[f64]| quantile(micros, 0.99) / 1e3;
        let each: Vec<f64> = self.slices.iter().map(|slice| p99(slice)).collect();
        Ok(Tail {
            usual: median(&each),
            overall: p99(&self.slices.concat()),
        })
    }
}

async fn by_turns(mut sides: [Side<'_>; 2]) -> TestResult<Pair> {
    for side in &sides {
        side.run(WARM_UP).await?;
    }
    for _ in 0..SLICES {
        for side in &mut sides {
            let slice = side.run(SLICE).await?;
            side.slices.push(slice);
        }
    }
    let [beside, alone] = sides;
    Ok([beside.finish().await?, alone.finish().await?])
}

//! What those who watch cost: memory with none and with 10,000 of them, one edge to all of these, and the edges of a
//! busy engine to a hundred; against a bare tonic server.
//!
//! *Ours*: a real engine with one simulated host, and for idle memory a real host too. *Bare*: the program `bare`, with
//! reflection and health: a tokio broadcast of edges that redb commits, one thread, nothing remembered. Memory is the
//! resident set; with 10,000 watches it is what they add to it. An edge's way begins at the stamp of the host, before
//! anything is committed: ours has one hop more.

use std::time::Duration;

use tests::World;
use tests::fail_point::FailPoints;
use tests::service::Service;
use tests::{Context as _, TestResult};

use super::front_door::bare_with;
use crate::crowd::Crowd;
use crate::fleet::Fleet;
use crate::load::Load;
use crate::memory::resident;
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};
use crate::stats::{median, quantile};

/// 10,000 watches.
const CONNECTIONS: usize = 100;
const EACH: usize = 100;
const WATCHES: usize = CONNECTIONS * EACH;

/// Edges to all of them, one after the other.
const EDGES: usize = 5;

/// Between two of those: long enough for an edge to reach all.
const PAUSE_MICROS: &str = "700000";

/// 100 watchers on ten connections, 1,000 edges a second.
const CROWD: (usize, usize) = (10, 10);
const BEAT: Duration = Duration::from_millis(1);
const BEAT_MICROS: &str = "1000";

/// How long those are watched.
const WINDOW: Duration = Duration::from_millis(1_500);

/// VMs whose edges last for the window: 64 disks, four edges each.
const VMS: usize = 8;

/// Until a service that was just started, or has many new watchers, is at rest.
const SETTLE: Duration = Duration::from_millis(300);

/// All lines.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let mut rows = idle(bench).await?;
    rows.extend(many(bench).await?);
    rows.push(busy(bench).await?);
    Ok(rows)
}

/// Nobody watches.
async fn idle(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let rounds = bench.alternate(async |bench, _| {
        let world = World::start_below(&bench.fresh_dir("idle")?).await?;
        world.host_serves().await?;
        let bare = started(bench, &[]).await?;
        tokio::time::sleep(SETTLE).await;
        Ok([resident(&world.engine)?, resident(&world.host)?, resident(&bare)?])
    });
    let rounds = rounds.await?;
    let row = |name: &str, place: usize| {
        let figures = |sample: &[f64; 3]| (sample[place], Some(sample[2]));
        Row::new(
            name,
            Unit::Mebibytes,
            Some(Target::RatioAtMost(2.0)),
            &rounds,
            figures,
        )
    };
    Ok(vec![row("idle memory, engine", 0), row("idle memory, host", 1)])
}

/// What 10,000 add, and how long an edge takes to the last of them.
async fn many(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let rounds = bench.alternate(async |bench, _| {
        let fleet = Fleet::start(&bench.fresh_dir("many-ours")?, 1).await?;
        let load = Load::prepare(&fleet, 0..1, 1).await?;
        let (ours, crowd) = growth(&fleet.engine).await?;
        let mut lasts = Vec::new();
        for _ in 0..EDGES {
            fleet.hosts[0].history.show_more(1);
            lasts.push(last(&crowd).await?);
        }
        drop(crowd);
        load.finish().await?;
        drop(fleet);
        let (bare, crowd) = growth(&started(bench, &[]).await?).await?;
        drop(crowd);
        let beating = started(bench, &["--edge-micros", PAUSE_MICROS]).await?;
        let crowd = Crowd::gather(beating.address(), CONNECTIONS, EACH).await?;
        // One that was under way while they came reached only some.
        tokio::time::sleep(SETTLE).await;
        crowd.forget();
        let mut bare_lasts = Vec::new();
        for _ in 0..EDGES {
            bare_lasts.push(last(&crowd).await?);
        }
        Ok([ours, bare, median(&lasts), median(&bare_lasts)])
    });
    let rounds = rounds.await?;
    let memory = |sample: &[f64; 4]| (sample[0], Some(sample[1]));
    let time = |sample: &[f64; 4]| (sample[2], Some(sample[3]));
    let (most, twice) = (Target::RatioAtMost(1.5), Target::RatioAtMost(2.0));
    Ok(vec![
        Row::new(
            "10,000 idle watches, memory",
            Unit::Mebibytes,
            Some(most),
            &rounds,
            memory,
        ),
        Row::new(
            "one edge to 10,000 watches",
            Unit::Milliseconds,
            Some(twice),
            &rounds,
            time,
        ),
    ])
}

/// 100 watchers, 1,000 edges a second: the p99.
async fn busy(bench: &mut Bench) -> TestResult<Row> {
    let fleet = Fleet::start(&bench.fresh_dir("busy-ours")?, 1).await?;
    let rounds = bench.alternate(async |bench, _| {
        let load = Load::prepare(&fleet, 0..1, VMS).await?;
        let crowd = Crowd::gather(fleet.engine.address(), CROWD.0, CROWD.1).await?;
        let edges = load.pace(BEAT, WINDOW).await;
        let ours = crowd.saw(edges * CROWD.0 * CROWD.1).await?;
        drop(crowd);
        load.finish().await?;
        let beating = started(bench, &["--edge-micros", BEAT_MICROS]).await?;
        let crowd = Crowd::gather(beating.address(), CROWD.0, CROWD.1).await?;
        tokio::time::sleep(SETTLE).await;
        crowd.forget();
        tokio::time::sleep(WINDOW).await;
        let bare = crowd.forget();
        Ok([quantile(&ours, 0.99) / 1e3, quantile(&bare, 0.99) / 1e3])
    });
    let figures = |sample: &[f64; 2]| (sample[0], Some(sample[1]));
    let name = "100 watchers, 1,000 edges/s, p99";
    let twice = Some(Target::RatioAtMost(2.0));
    Ok(Row::new(name, Unit::Milliseconds, twice, &rounds.await?, figures))
}

/// The bare parts at work.
async fn started(bench: &mut Bench, arguments: &[&str]) -> TestResult<Service> {
    let mut bare = bare_with(bench, arguments)?;
    bare.start(&FailPoints::default()).await?;
    Ok(bare)
}

/// What 10,000 watches add to the memory of a service, in MiB, and those who watch.
async fn growth(service: &Service) -> TestResult<(f64, Crowd)> {
    let before = resident(service)?;
    let crowd = Crowd::gather(service.address(), CONNECTIONS, EACH).await?;
    tokio::time::sleep(SETTLE).await;
    Ok((resident(service)? - before, crowd))
}

/// Milliseconds until the last of 10,000 has the next edge.
async fn last(crowd: &Crowd) -> TestResult<f64> {
    let micros = crowd.saw(WATCHES).await?;
    let last = micros.into_iter().reduce(f64::max).context("nobody watches")?;
    Ok(last / 1e3)
}

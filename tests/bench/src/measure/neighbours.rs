//! What a hung host costs the edges of the others, and a watcher that does not read the other watchers: the slowest
//! hundredth, with and without.
//!
//! Four simulated hosts and a real engine; 1,000 edges a second come from three of them to ten watchers. Then the
//! first host's cable is pulled while it has work, so that its calls and its stream hang, and the same is measured
//! again. In another engine a watcher opens its stream and reads nothing.

use std::time::Duration;

use proto::engine::v1::WatchTasksRequest;
use proto::task::v1::{WatchStart, watch_start};
use tests::client::Engine;
use tests::{Context as _, Outcome};

use crate::crowd::Crowd;
use crate::fleet::Fleet;
use crate::load::Load;
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};
use crate::stats::quantile;

const HOSTS: usize = 4;

const BEAT: Duration = Duration::from_millis(1);

/// How long each of the two is measured: the engine gives a host that answers no ping up only later.
const WINDOW: Duration = Duration::from_secs(2);

/// VMs whose edges last for one window: 64 disks, four edges each.
const VMS: usize = 9;

/// Ten watchers on two connections.
const CROWD: (usize, usize) = (2, 5);

/// Two lines.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let hung = bench.alternate(async |bench, _| {
        let fleet = Fleet::start_behind_proxy(&bench.fresh_dir("hung-host")?, HOSTS).await?;
        let before = p99(&fleet).await?;
        fleet.proxy.as_ref().context("no proxy")?.freeze();
        // They are sent to it, and it never answers.
        fleet.create_vms(0..1, 1).await?;
        let beside = p99(&fleet).await?;
        Ok([beside, before])
    });
    let hung = hung.await?;
    let stalled = bench.alternate(async |bench, _| {
        let fleet = Fleet::start(&bench.fresh_dir("stalled-watcher")?, HOSTS).await?;
        let before = p99(&fleet).await?;
        let client = Engine::at(fleet.engine.address())?;
        let everything = WatchTasksRequest {
            start: Some(WatchStart {
                start: Some(watch_start::Start::Now(())),
            }),
            ..WatchTasksRequest::default()
        };
        let unread = client
            .tasks
            .clone()
            .watch_tasks(everything)
            .await
            .context("WatchTasks")?;
        let beside = p99(&fleet).await?;
        drop(unread);
        Ok([beside, before])
    });
    let figures = |sample: &[f64; 2]| (sample[0], Some(sample[1]));
    let row = |name: &str, limit: f64, rounds: &[_]| {
        let target = Some(Target::RatioAtMost(limit));
        Row::new(name, Unit::Milliseconds, target, rounds, figures)
            .noting("beside it is the same engine a moment before")
    };
    Ok(vec![
        row("beside a hung host, p99", 1.1, &hung),
        row("beside a stalled watcher, p99", 1.3, &stalled.await?),
    ])
}

/// Of the edges of all hosts but the first, to all watchers, in milliseconds.
async fn p99(fleet: &Fleet) -> Outcome<f64> {
    let load = Load::prepare(fleet, 1..HOSTS, VMS).await?;
    let crowd = Crowd::gather(fleet.engine.address(), CROWD.0, CROWD.1).await?;
    let edges = load.pace(BEAT, WINDOW).await;
    let micros = crowd.saw(edges * CROWD.0 * CROWD.1).await?;
    drop(crowd);
    load.finish().await?;
    Ok(quantile(&micros, 0.99) / 1e3)
}

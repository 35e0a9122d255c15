//! `kill -9` of an engine that has recorded a hundred thousand finished tasks and a thousand open ones; then from the
//! start of the new process until it serves, and until it is reconciled with the host.
//!
//! *Ours*: the data directory is made by real commands on a simulated host, killed with SIGKILL, and copied for each
//! round. While the engine is down every open task goes on by three edges. It is reconciled when it shows the host
//! as connected and its cursor at the end of the host's history, with all of these edges committed. *Bare*: redb
//! opens a copy of the same file, and nothing is read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::task::TaskState;
use proto::engine::v1::{AsyncTask, AsyncTaskState, ListHostsRequest};
use redb::Database;
use tests::client::Engine;
use tests::fail_point::FailPoints;
use tests::patience::eventually;
use tests::service::{Recipe, Service};
use tests::{Context as _, Failure, TestResult};

use crate::fleet::{DISKS_PER_VM, Fleet, has_caught_up, succeeds};
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};
use crate::watcher::Watcher;

/// The database in a data directory.
const FILE: &str = "store.redb";

const FINISHED: usize = 100_000;

/// VMs whose commands run at the same time while the data directory is made.
const WAVE: usize = 100;

/// 1,024 open tasks.
const OPEN_VMS: usize = 16;

/// Making the data directory may not take longer: then there are fewer finished tasks, and the report says so.
const PREPARATION: Duration = Duration::from_secs(100);

/// What one start took, in milliseconds.
#[derive(Debug)]
struct Sample {
    serving: f64,
    reconciled: f64,
    bare: f64,
}

/// A line until it serves and one until it is reconciled.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let mut fleet = Fleet::start(&bench.fresh_dir("restart")?, 1).await?;
    let finished = prepare(&fleet).await?;
    fleet.engine.kill().await?;
    fleet.hosts[0].history.drive(TaskState::Running);
    fleet.hosts[0].history.let_go();
    let killed = fleet.engine.recipe().data_dir.clone();

    let rounds = bench.alternate(async |bench, _| {
        let (serving, reconciled) = start(&fleet, copy(&killed, bench.fresh_dir("restart-ours")?)?).await?;
        let bare = open_bare(&copy(&killed, bench.fresh_dir("restart-bare")?)?)?;
        Ok(Sample {
            serving,
            reconciled,
            bare,
        })
    });
    let rounds = rounds.await?;
    let open = OPEN_VMS * DISKS_PER_VM;
    let note = format!(
        "{finished} finished and {open} open tasks; {} edges came meanwhile",
        open * 3
    );
    let limit = Some(Target::AtMost(1_000.0));
    let serving = |sample: &Sample| (sample.serving, Some(sample.bare));
    let reconciled = |sample: &Sample| (sample.reconciled, Some(sample.bare));
    Ok(vec![
        Row::new("restart, serving", Unit::Milliseconds, None, &rounds, serving),
        Row::new(
            "restart, reconciled",
            Unit::Milliseconds,
            limit,
            &rounds,
            reconciled,
        )
        .noting(note),
    ])
}

/// Makes the records: returns how many tasks are finished.
async fn prepare(fleet: &Fleet) -> TestResult<usize> {
    let history = &fleet.hosts[0].history;
    let end = Instant::now() + PREPARATION;
    let mut finished = 0;
    while finished < FINISHED && Instant::now() < end {
        let vms = WAVE.min((FINISHED - finished).div_ceil(DISKS_PER_VM));
        let mut watcher = Watcher::open(&fleet.client).await?;
        let commands = fleet.create_vms(0..fleet.hosts.len(), vms).await?;
        finished += vms * DISKS_PER_VM;
        fleet.hosts_accepted(finished).await?;
        history.drive(TaskState::Finished);
        for command in commands {
            succeeds(&fleet.client, Some(command)).await?;
        }
        let cleared = |task: &_| is(task, AsyncTaskState::Cleared);
        watcher.until(vms * DISKS_PER_VM, cleared).await?;
    }
    let mut watcher = Watcher::open(&fleet.client).await?;
    history.hold();
    fleet.create_vms(0..fleet.hosts.len(), OPEN_VMS).await?;
    let watching = |task: &_| is(task, AsyncTaskState::Watching);
    watcher.until(OPEN_VMS * DISKS_PER_VM, watching).await?;
    Ok(finished)
}

fn is(task: &AsyncTask, state: AsyncTaskState) -> bool {
    task.async_state == i32::from(state)
}

/// Starts an engine over `data_dir`: milliseconds until it serves, and until it is reconciled.
async fn start(fleet: &Fleet, data_dir: PathBuf) -> TestResult<(f64, f64)> {
    let recipe = Recipe {
        data_dir,
        ..fleet.engine.recipe().clone()
    };
    let host = &fleet.hosts[0];
    let head = host.history.token();
    let mut engine = Service::new(recipe);
    let start = Instant::now();
    let client = Engine::at(engine.start(&FailPoints::default()).await?)?;
    eventually("the engine to serve", async || {
        let mut hosts = client.hosts.clone();
        hosts.list_hosts(ListHostsRequest::default()).await.ok().map(drop)
    })
    .await?;
    let serving = start.elapsed();
    eventually("the engine to have caught up with its host", || {
        has_caught_up(&client, &host.host_id, &head)
    })
    .await?;
    let reconciled = start.elapsed();
    engine.kill().await?;
    fs::remove_dir_all(&engine.recipe().data_dir)?;
    Ok((serving.as_secs_f64() * 1e3, reconciled.as_secs_f64() * 1e3))
}

/// Copies a data directory, and syncs the copy so that nothing of it is written while a start is measured.
fn copy(from: &Path, to: PathBuf) -> TestResult<PathBuf> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let copy = to.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            File::open(copy)?.sync_all()?;
        }
    }
    Ok(to)
}

/// Milliseconds that redb takes to open the file.
fn open_bare(data_dir: &Path) -> TestResult<f64> {
    let file = data_dir.join(FILE);
    let start = Instant::now();
    let database = Database::open(&file)
        .map_err(Failure::new)
        .context("the bare database")?;
    let millis = start.elapsed().as_secs_f64() * 1e3;
    drop(database);
    fs::remove_dir_all(data_dir)?;
    Ok(millis)
}

//! State edges per second that come in on hosts' streams, are committed by the engine with its cursor, and reach a
//! watcher; against bare redb group commit of the same records.
//!
//! *Ours*: the engine has sent tasks of `CreateVm` commands to simulated hosts, which hold their history back. When
//! it is let go, INIT, PREPARING, QUEUED and RUNNING of every task stream in, each a revision of its own, as fast as
//! flow control lets, so that more than 64 always wait. The clock runs from there until a `WatchTasks` client has
//! received every edge. Afterwards the tasks finish, the commands end and the tasks are cleared, without the clock:
//! then commands' ends and calls to hosts would be measured as well.
//!
//! *Bare*: what the watcher received is what the engine recorded: those very tasks, as record and in the history,
//! and the host's record with the cursor, are written to a redb of their own, in the largest groups that the
//! engine's coordinator makes. Nothing decodes, decides, encodes or sends.

use std::collections::HashMap;
use std::time::Instant;

use common::task::TaskState;
use proto::convert;
use proto::engine::v1::watch_tasks_response::Frame;
use proto::engine::v1::{AsyncTask, AsyncTaskState, Host, WatchTasksRequest, WatchTasksResponse};
use proto::task::v1::{WatchStart, watch_start};
use tests::client::Engine;
use tests::failure::ensure;
use tests::{Context as _, Outcome};
use tonic::Streaming;

use crate::bare::commit::{BareStore, Batch, Revision};
use crate::fleet::{DISKS_PER_VM, Fleet, succeeds};
use crate::records;
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};

const HOSTS: [usize; 3] = [1, 10, 100];

const TARGET: Target = Target::RatioAtLeast(0.65);

/// So many tasks a round: a second or so of edges.
const VMS: usize = 100;
const TASKS: usize = VMS * DISKS_PER_VM;

/// INIT, PREPARING, QUEUED, RUNNING.
const EDGES: usize = TASKS * 4;

/// The most inputs that the services' coordinator makes one transaction.
const GROUP: usize = 512;

/// A line for each number of hosts.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for hosts in HOSTS {
        let fleet = Fleet::start(&bench.fresh_dir("hot-path-ours")?, hosts).await?;
        let mut bare = BareStore::create(&bench.fresh_dir("hot-path-bare")?)?;
        let rounds = bench.alternate(async |_, _| {
            let (ours, edges) = stream_edges(&fleet).await?;
            let bare = commit_bare(&mut bare, &fleet, &edges)?;
            Ok((ours, bare))
        });
        let name = format!("hot path, {hosts} hosts");
        let figures = |sample: &(f64, f64)| (sample.0, Some(sample.1));
        rows.push(Row::new(
            name,
            Unit::PerSecond,
            Some(TARGET),
            &rounds.await?,
            figures,
        ));
    }
    Ok(rows)
}

/// One round of ours: edges per second, and the edges.
async fn stream_edges(fleet: &Fleet) -> Outcome<(f64, Vec<AsyncTask>)> {
    let accepted_before: usize = fleet.hosts.iter().map(|host| host.history.accepted()).sum();
    let mut watcher = Watcher::open(&fleet.client).await?;
    fleet.hosts.iter().for_each(|host| host.history.hold());
    let commands = fleet.create_vms(VMS).await?;
    watcher
        .until(TASKS, |task| {
            task.async_state == i32::from(AsyncTaskState::Watching)
        })
        .await?;
    fleet.hosts_accepted(accepted_before + TASKS).await?;
    for host in &fleet.hosts {
        host.history.drive(TaskState::Running);
    }

    let start = Instant::now();
    fleet.hosts.iter().for_each(|host| host.history.let_go());
    let edges = watcher.until(EDGES, |task| task.host_sequence > 0).await?;
    let rate = EDGES as f64 / start.elapsed().as_secs_f64();

    let running = edges
        .iter()
        .filter(|task| convert::state_from_wire(task.state) == Some(TaskState::Running));
    ensure(running.count() == TASKS, || {
        "not every task was seen RUNNING, once".to_owned()
    })?;
    for host in &fleet.hosts {
        host.history.drive(TaskState::Finished);
    }
    for command in commands {
        succeeds(&fleet.client, Some(command)).await?;
    }
    watcher
        .until(TASKS, |task| {
            task.async_state == i32::from(AsyncTaskState::Cleared)
        })
        .await?;
    Ok((rate, edges))
}

/// One round of the bare database: the same edges per second.
fn commit_bare(store: &mut BareStore, fleet: &Fleet, edges: &[AsyncTask]) -> Outcome<f64> {
    let hosts = fleet.hosts.iter().map(|host| Host {
        host_id: host.host_id.clone(),
        name: "host-1".to_owned(),
        address: host.address.to_string(),
        store_id: host.host_id.clone(),
        cursor: records::TOKEN.to_owned(),
        ..Host::default()
    });
    let hosts: Vec<Host> = hosts.collect();
    let first_slot = store.revisions();
    let mut slots = HashMap::new();
    let revisions = edges.iter().filter_map(|task| {
        let next = first_slot + slots.len() as u64;
        let slot = *slots.entry(&task.task_id).or_insert(next);
        let host = hosts.iter().find(|host| host.host_id == task.host_id)?;
        Some(records::engine_revision(slot, task, host))
    });
    let revisions: Vec<Revision> = revisions.collect();
    let batches: Vec<Batch> = revisions
        .chunks(GROUP)
        .map(|group| Batch::new(group.to_vec()))
        .collect();
    // The engine has recorded the tasks before: its edges replace records, and so do these.
    store.commit(&Batch::new(revisions))?;
    let start = Instant::now();
    for batch in &batches {
        store.commit(batch)?;
    }
    Ok(edges.len() as f64 / start.elapsed().as_secs_f64())
}

/// A client of the engine's `WatchTasks`.
pub(super) struct Watcher {
    stream: Streaming<WatchTasksResponse>,
}

impl Watcher {
    /// Sees every change from now on.
    ///
    /// # Errors
    /// Where the engine refuses.
    pub(super) async fn open(client: &Engine) -> Outcome<Self> {
        let request = WatchTasksRequest {
            start: Some(WatchStart {
                start: Some(watch_start::Start::Now(())),
            }),
            ..WatchTasksRequest::default()
        };
        let stream = client
            .tasks
            .clone()
            .watch_tasks(request)
            .await
            .context("WatchTasks")?;
        let mut watcher = Self {
            stream: stream.into_inner(),
        };
        // `Opened`: from here on nothing is missed.
        watcher.frame().await?;
        Ok(watcher)
    }

    /// The items of the next frame that brings changes.
    ///
    /// # Errors
    /// Where the stream ends.
    pub(super) async fn changes(&mut self) -> Outcome<Vec<AsyncTask>> {
        loop {
            if let Some(Frame::Changes(changes)) = self.frame().await? {
                return Ok(changes.items);
            }
        }
    }

    /// Reads on until so many changes were as wanted, and returns those.
    ///
    /// # Errors
    /// Where the stream ends.
    pub(super) async fn until(
        &mut self,
        count: usize,
        wanted: impl Fn(&AsyncTask) -> bool,
    ) -> Outcome<Vec<AsyncTask>> {
        let mut seen = Vec::with_capacity(count);
        while seen.len() < count {
            seen.extend(self.changes().await?.into_iter().filter(&wanted));
        }
        Ok(seen)
    }

    async fn frame(&mut self) -> Outcome<Option<Frame>> {
        let message = self.stream.message().await.context("the engine's stream")?;
        Ok(message.context("the engine's stream ended")?.frame)
    }
}

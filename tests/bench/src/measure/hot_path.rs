//! State edges per second that come in on hosts' streams, are committed by the engine with its cursor, and reach a
//! watcher; against bare redb group commit of the same records.
//!
//! *Ours*: the engine has sent tasks of `CreateVm` commands to simulated hosts, which hold their history back. When
//! it is let go, INIT, PREPARING, QUEUED and RUNNING of every task stream in, each a revision of its own, as fast as
//! flow control lets, so that more than 64 always wait. The clock runs from there until a `WatchTasks` client has
//! received every edge. Afterwards the tasks finish, the commands end and the tasks are cleared, without the clock:
//! with it, the ends of commands and calls to hosts would be measured as well. The hosts and the watcher share the
//! machine's cores with the engine.
//!
//! *Bare*: what the engine has committed for these edges is read from a copy of its database, and committed again to
//! a redb with nothing around it: nothing decodes, decides, encodes or sends. Once in groups as large as the engine's
//! own may become, which is the strictest comparison, and once in groups of 64, which is what as many callers that
//! each wait for their commit would get.

use std::ops::RangeInclusive;
use std::time::Instant;

use common::task::TaskState;
use proto::convert;
use proto::engine::v1::watch_tasks_response::Frame;
use proto::engine::v1::{AsyncTask, AsyncTaskState, WatchTasksRequest, WatchTasksResponse};
use proto::task::v1::{WatchStart, watch_start};
use tests::client::Engine;
use tests::failure::ensure;
use tests::{Context as _, Outcome};
use tonic::Streaming;

use crate::bare::commit::{BareStore, Batch, Revision};
use crate::fleet::{DISKS_PER_VM, Fleet, succeeds};
use crate::recorded;
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};

const HOSTS: [usize; 3] = [1, 10, 100];

const TARGET: Target = Target::RatioAtLeast(0.65);

/// So many tasks a round: a second or so of edges.
const VMS: usize = 100;
const TASKS: usize = VMS * DISKS_PER_VM;

/// INIT, PREPARING, QUEUED, RUNNING.
const EDGES: usize = TASKS * 4;

/// Revisions in a bare transaction: the most inputs that the services' coordinator takes at once, and the number of
/// waiting callers from which on the target holds.
const GROUPS: [usize; 2] = [512, 64];

/// Edges per second.
#[derive(Debug)]
struct Sample {
    ours: f64,
    /// As [`GROUPS`].
    bare: [f64; 2],
}

/// Two lines for each number of hosts.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for hosts in HOSTS {
        let fleet = Fleet::start(&bench.fresh_dir("hot-path-ours")?, hosts).await?;
        let mut stores = [
            BareStore::create(&bench.fresh_dir("hot-path-bare")?)?,
            BareStore::create(&bench.fresh_dir("hot-path-bare")?)?,
        ];
        let mut recorded = Vec::new();
        let rounds = bench.alternate(async |_, _| {
            let (ours, revisions) = stream_edges(&fleet).await?;
            if recorded.is_empty() {
                recorded = recorded::edges(&fleet.engine.recipe().data_dir, revisions)?;
            }
            let [large, small] = &mut stores;
            let bare = [
                commit_bare(large, &recorded, GROUPS[0])?,
                commit_bare(small, &recorded, GROUPS[1])?,
            ];
            Ok(Sample { ours, bare })
        });
        let rounds = rounds.await?;
        for (place, group) in GROUPS.iter().enumerate() {
            let name = format!("hot path, {hosts} hosts / groups of {group}");
            let figures = |sample: &Sample| (sample.ours, Some(sample.bare[place]));
            rows.push(Row::new(name, Unit::PerSecond, Some(TARGET), &rounds, figures));
        }
    }
    Ok(rows)
}

/// One round of ours: edges per second, and their revisions.
async fn stream_edges(fleet: &Fleet) -> Outcome<(f64, RangeInclusive<u64>)> {
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

    let first = watcher.revision + 1;
    let start = Instant::now();
    fleet.hosts.iter().for_each(|host| host.history.let_go());
    let edges = watcher.until(EDGES, |task| task.host_sequence > 0).await?;
    let rate = EDGES as f64 / start.elapsed().as_secs_f64();
    let revisions = first..=watcher.revision;

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
    Ok((rate, revisions))
}

/// One round of the bare database: the same revisions per second.
fn commit_bare(store: &mut BareStore, revisions: &[Revision], group: usize) -> Outcome<f64> {
    let batches: Vec<Batch> = revisions
        .chunks(group)
        .map(|group| Batch::new(group.to_vec()))
        .collect();
    // The engine had recorded the tasks before: its edges replace records, and so do these.
    store.commit(&Batch::new(revisions.to_vec()))?;
    let start = Instant::now();
    for batch in &batches {
        store.commit(batch)?;
    }
    Ok(revisions.len() as f64 / start.elapsed().as_secs_f64())
}

/// A client of the engine's `WatchTasks`.
pub(super) struct Watcher {
    stream: Streaming<WatchTasksResponse>,
    /// The last that brought changes.
    revision: u64,
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
            revision: 0,
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
                self.revision = changes.revision;
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

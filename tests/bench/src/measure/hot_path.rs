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
use tests::TestResult;
use tests::failure::ensure;

use crate::bare::commit::{BareStore, Batch, Revision};
use crate::fleet::{DISKS_PER_VM, Fleet};
use crate::load::{EDGES_PER_TASK, Load};
use crate::recorded;
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};

const HOSTS: [usize; 3] = [1, 10, 100];

const TARGET: Target = Target::RatioAtLeast(0.65);

/// So many tasks a round: a second or so of edges.
const VMS: usize = 100;
const TASKS: usize = VMS * DISKS_PER_VM;

const EDGES: usize = TASKS * EDGES_PER_TASK;

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
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
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
async fn stream_edges(fleet: &Fleet) -> TestResult<(f64, RangeInclusive<u64>)> {
    let mut load = Load::prepare(fleet, 0..fleet.hosts.len(), VMS).await?;
    let first = load.watcher.revision + 1;
    let start = Instant::now();
    fleet.hosts.iter().for_each(|host| host.history.let_go());
    let edges = load.watcher.until(EDGES, |task| task.host_sequence > 0).await?;
    let rate = EDGES as f64 / start.elapsed().as_secs_f64();
    let revisions = first..=load.watcher.revision;

    let running = edges
        .iter()
        .filter(|task| convert::state_from_wire(task.state) == Some(TaskState::Running));
    ensure(running.count() == TASKS, || {
        "not every task was seen RUNNING, once".to_owned()
    })?;
    load.finish().await?;
    Ok((rate, revisions))
}

/// One round of the bare database: the same revisions per second.
fn commit_bare(store: &mut BareStore, revisions: &[Revision], group: usize) -> TestResult<f64> {
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

//! Edges that wait on the simulated hosts of a fleet until the bench lets them go.

use std::ops::Range;
use std::time::Duration;

use common::task::TaskState;
use proto::engine::v1::{AsyncTaskState, Command};
use tests::TestResult;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::fleet::{DISKS_PER_VM, Fleet, succeeds};
use crate::sim::SimulatedHost;
use crate::watcher::Watcher;

/// INIT, PREPARING, QUEUED, RUNNING.
pub(crate) const EDGES_PER_TASK: usize = 4;

/// Commands whose tasks the hosts hold, with their edges up to RUNNING.
pub(crate) struct Load<'a> {
    fleet: &'a Fleet,
    hosts: &'a [SimulatedHost],
    commands: Vec<Command>,
    /// Sees every change since before the commands.
    pub(crate) watcher: Watcher,
}

impl<'a> Load<'a> {
    /// So many VMs on these hosts, in turn. Returns when every edge is ready and none is shown.
    ///
    /// # Errors
    /// Where a call fails.
    pub(crate) async fn prepare(fleet: &'a Fleet, hosts: Range<usize>, vms: usize) -> TestResult<Self> {
        let on = &fleet.hosts[hosts.clone()];
        let accepted_before: usize = fleet.hosts.iter().map(|host| host.history.accepted()).sum();
        let mut watcher = Watcher::open(&fleet.client).await?;
        on.iter().for_each(|host| host.history.hold());
        let commands = fleet.create_vms(hosts, vms).await?;
        let tasks = vms * DISKS_PER_VM;
        watcher
            .until(tasks, |task| {
                task.async_state == i32::from(AsyncTaskState::Watching)
            })
            .await?;
        fleet.hosts_accepted(accepted_before + tasks).await?;
        for host in on {
            host.history.drive(TaskState::Running);
        }
        Ok(Self {
            fleet,
            hosts: on,
            commands,
            watcher,
        })
    }

    /// Lets an edge go in each beat for so long, one host after the other. Returns how many.
    pub(crate) async fn pace(&self, beat: Duration, window: Duration) -> usize {
        let end = Instant::now() + window;
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut gone = 0;
        for host in self.hosts.iter().cycle() {
            if beats.tick().await >= end {
                break;
            }
            host.history.show_more(1);
            gone += 1;
        }
        gone
    }

    /// Lets the tasks finish and the commands end.
    ///
    /// # Errors
    /// Where one does not succeed.
    pub(crate) async fn finish(mut self) -> TestResult<()> {
        for host in self.hosts {
            host.history.let_go();
            host.history.drive(TaskState::Finished);
        }
        let tasks = self.commands.len() * DISKS_PER_VM;
        for command in self.commands {
            succeeds(&self.fleet.client, Some(command)).await?;
        }
        self.watcher
            .until(tasks, |task| {
                task.async_state == i32::from(AsyncTaskState::Cleared)
            })
            .await?;
        Ok(())
    }
}

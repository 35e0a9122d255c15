//! Runs the tasks: one thread each, as many as the host runs at a time.
//!
//! The threads are ours and no pool of the async runtime: an operation may block for hours, and nobody waits for it
//! when the service stops. Its task is then as after a crash, and the next start decides.

mod context;
mod job;
mod pool;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use proto::store::v1::HostHistory;
use runtime::coordinator::{Handle, Perform};
use runtime::log::Log;
use tokio::sync::watch;
use vdsm_core::{Effect, Task};
use vdsm_storage::NamedRoot;

use self::job::{Job, Next};
use self::pool::Pool;
use crate::alive::Alive;
use crate::presence::Presence;
use crate::store::HostMachine;

/// The tools that every job needs.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) root: Arc<NamedRoot>,
    pub(crate) alive: Arc<Alive>,
    /// Which engines are connected.
    pub(crate) presence: Arc<Presence>,
    pub(crate) log: Arc<Log<HostHistory>>,
    /// Set once the coordinator runs; jobs wait for it.
    pub(crate) coordinator: watch::Receiver<Option<Handle<HostMachine>>>,
    pub(crate) tokio: tokio::runtime::Handle,
}

/// Performs the effects of the machine.
pub(crate) struct Runner {
    tools: Tools,
    pool: Pool,
}

impl Runner {
    /// Runs up to `threads` tasks at a time.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn new(tools: Tools, threads: usize) -> io::Result<Self> {
        Ok(Self {
            tools,
            pool: Pool::new(threads)?,
        })
    }

    fn employ(&mut self, task: Arc<Task>, work: fn(&Job) -> Next) {
        // Entered here, in the order of the effects, so that an abort that comes next finds the task.
        let alive = self.tools.alive.begin_task(Arc::clone(&task));
        let pool = self.pool.handle();
        let job = Job::new(self.tools.clone(), pool.clone(), task, alive);
        pool.run(Box::new(move || job.work(work)));
    }
}

impl Perform<Effect> for Runner {
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Run(task) => self.employ(task, Job::run),
            Effect::Recover(task) => {
                tracing::info!(task_id = %task.id, state = ?task.state, "unfinished task found at startup");
                self.employ(task, Job::recover);
            }
            Effect::SignalAbort(id) => self.tools.alive.abort(id),
            // Shown already.
            Effect::Fence(_) => {}
        }
    }

    /// Shows the owner before the answer: an engine that is told that it has the host may open a stream at once.
    fn show(&mut self, effect: &Effect) {
        match effect {
            Effect::Fence(owner) => self.tools.presence.belongs_to(Some(owner.clone())),
            Effect::Run(_) | Effect::Recover(_) | Effect::SignalAbort(_) => {}
        }
    }
}

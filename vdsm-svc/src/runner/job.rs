//! The work for one task, from its start (or from where a restart found it) to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::operation::{Noop, Operation};
use common::task::TaskState;
use runtime::threads;
use tracing::Span;
use vdsm_core::{Answer, Report, Task};
use vdsm_storage::op::{self, OpEnd};
use vdsm_storage::{StorageRoot, run_dir};

use super::Tools;
use super::context::Context;
use super::pool::PoolHandle;
use crate::alive::AliveTask;

/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often the job looks for a process that has outlived SIGKILL: a disk or a network keeps it.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

/// How often an undo is tried on a domain that somebody else writes to, or in a root that is not there.
const AWAY_TRIES: u32 = 10;

/// The pause between two such tries.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// How often a run directory that cannot be read is tried, because a limit may be reached only for a moment. After
/// that the task ends with the error: nothing shows whether a process is left.
const UNREADABLE_TRIES: u32 = 5;

/// The pause between two such tries.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);

/// The work for one task.
pub(super) struct Job {
    tools: Tools,
    pool: PoolHandle,
    task: Arc<Task>,
    context: Context,
    /// The storage root in which the operation began: the operation is rolled back there, whatever has the root's
    /// name by then.
    root: OnceLock<Arc<StorageRoot>>,
}

/// What is still to be done for a task.
pub(super) enum Next {
    /// Nothing is left to do.
    Over,
    /// The operation took effect, which is to be reported.
    Report,
}

/// The host has refused a report, or is stopping: this thread has nothing more to do for the task.
struct GivenUp(Fault);

impl From<Fault> for GivenUp {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl Job {
    pub(super) fn new(tools: Tools, pool: PoolHandle, task: Arc<Task>, alive: Arc<AliveTask>) -> Self {
        let context = Context::new(tools.clone(), task.id, alive, task.note.clone());
        Self {
            tools,
            pool,
            task,
            context,
            root: OnceLock::new(),
        }
    }

    /// Does one of the kinds of work below. The task stays in the list of live work until everything is reported.
    pub(super) fn work(self, work: fn(&Self) -> Next) {
        let span = tracing::info_span!(
            "task",
            task_id = %self.task.id,
            verb = self.operation().name(),
            correlation_id = %self.task.correlation_id,
        );
        match span.in_scope(|| work(&self)) {
            Next::Over => self.over(),
            Next::Report => self.report_effect(span),
        }
    }

    /// Runs the operation.
    pub(super) fn run(&self) -> Next {
        self.tell("begins");
        match guarded(|| op::run(self.root()?, self.operation(), self.task.id, &self.context)) {
            Ok(()) => Next::Report,
            Err(fault) => {
                self.ended(self.wind_back(fault));
                Next::Over
            }
        }
    }

    /// Recovers a task that a restart found at work.
    pub(super) fn recover(&self) -> Next {
        self.ended(self.stop_and_conclude(self.cause()));
        Next::Over
    }

    /// No thread works on the task any more.
    fn over(&self) {
        self.tools.log.progress().forget(self.task.id);
        if let Some(root) = self.root.get() {
            op::forget(root, self.task.id);
        }
        self.tools.alive.end_task(self.task.id);
    }

    /// Reports without a thread that waits for the commit: nearly always the report is all that is left to do.
    fn report_effect(self, span: Span) {
        let (tokio, report) = (self.tools.tokio.clone(), self.context.ask(Report::Finished));
        threads::then(&tokio, report, move |answer| {
            if matches!(&answer, Some(Ok(Ok(Answer::Task(task)))) if task.state == TaskState::Finished) {
                span.in_scope(|| self.tell("finished"));
                return self.over();
            }
            // The task was aborted, or the report was not recorded: a thread that may block reports once more.
            let pool = self.pool.clone();
            let again = move || {
                span.in_scope(|| self.ended(self.took_effect()));
                self.over();
            };
            pool.run(Box::new(again));
        });
    }

    /// If an abort came after the operation's last check, the work is examined and undone.
    fn took_effect(&self) -> Result<Option<TaskState>, GivenUp> {
        match self.context.report(Report::Finished)? {
            Some(TaskState::Aborting) => self.stop_and_conclude(self.cause()),
            state => Ok(state),
        }
    }

    /// Ends a task after a failure or an abort. Past the commit point only storage tells whether the operation took
    /// effect, so storage is asked before the task counts as failed.
    fn wind_back(&self, cause: Fault) -> Result<Option<TaskState>, GivenUp> {
        if self.context.stopping() {
            return Err(GivenUp(cause));
        }
        tracing::info!(%cause, "operation failed, undoing");
        if !self.context.committing() {
            self.context.report(Report::Failed(cause.clone()))?;
            return self.stop_and_conclude(cause);
        }
        let end = match self.stop_all(&cause)? {
            Ok(()) => self.concluded(cause),
            Err(unreadable) => OpEnd::Failed(unreadable),
        };
        Ok(match end {
            OpEnd::Finished => self.context.report(Report::Finished)?,
            OpEnd::Failed(fault) => self.give_up(fault)?,
            OpEnd::Undone(cause) => {
                self.context.report(Report::Failed(cause))?;
                self.context.report(Report::Stopped)?;
                self.context.report(Report::Undone)?
            }
        })
    }

    /// First no process is left, then the undo, then the end: each is durable before the next begins.
    fn stop_and_conclude(&self, cause: Fault) -> Result<Option<TaskState>, GivenUp> {
        if let Err(unreadable) = self.stop_all(&cause)? {
            return self.give_up(unreadable);
        }
        self.context.report(Report::Stopped)?;
        Ok(match self.concluded(cause) {
            OpEnd::Finished => self.context.report(Report::Finished)?,
            OpEnd::Undone(_) => self.context.report(Report::Undone)?,
            OpEnd::Failed(fault) => self.give_up(fault)?,
        })
    }

    /// Returns when no process of the task is left, however long that takes: nothing is undone under a running
    /// process. If that cannot be determined after all tries, the fault says why: an error does not count as a
    /// process.
    fn stop_all(&self, cause: &Fault) -> Result<Result<(), Fault>, GivenUp> {
        if !op::starts_processes(self.operation()) {
            return Ok(Ok(()));
        }
        let mut tries = 1;
        while let Err(fault) = self
            .root()
            .and_then(|root| run_dir::kill_leftovers(root, self.task.id, GRACE))
        {
            if fault.code == FaultCode::ProcessStuck {
                tracing::warn!(%fault, "a process of the task cannot be killed");
                self.context.report(Report::Failed(cause.clone()))?;
                self.context.report(Report::Stuck(fault))?;
                threads::sleep(STUCK_PAUSE);
            } else if self.never_began() {
                return Ok(Ok(()));
            } else if tries < UNREADABLE_TRIES {
                tracing::warn!(%fault, "cannot determine whether a process of the task is left; trying again");
                tries += 1;
                threads::sleep(UNREADABLE_PAUSE);
            } else {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    /// Whether the task has no note, so that nothing was begun, not even a process.
    fn never_began(&self) -> bool {
        self.context.note_now().is_none()
    }

    /// The storage root as it was when the operation began here.
    fn root(&self) -> Result<&StorageRoot, Fault> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let root = self.tools.root.now()?;
        Ok(self.root.get_or_init(|| root))
    }

    /// Concludes the task. If somebody else writes to the domain, or the root is away, it tries again before it
    /// leaves the task to people.
    fn concluded(&self, cause: Fault) -> OpEnd {
        for _ in 1..AWAY_TRIES {
            match self.conclude(cause.clone()) {
                OpEnd::Failed(fault)
                    if matches!(fault.code, FaultCode::DomainLocked | FaultCode::StorageRootGone) =>
                {
                    tracing::warn!(%fault, "undo postponed; trying again");
                    threads::sleep(AWAY_PAUSE);
                }
                end => return end,
            }
        }
        self.conclude(cause)
    }

    fn conclude(&self, cause: Fault) -> OpEnd {
        let note = self.context.note_now();
        if self.root.get().is_none() && self.never_began() {
            return OpEnd::Undone(cause);
        }
        guarded(|| {
            let id = self.task.id;
            Ok(op::recover(
                self.root()?,
                self.operation(),
                id,
                note.as_deref(),
                cause,
                &self.context,
            ))
        })
        .unwrap_or_else(OpEnd::Failed)
    }

    fn give_up(&self, fault: Fault) -> Result<Option<TaskState>, GivenUp> {
        if self.context.stopping() {
            return Err(GivenUp(fault));
        }
        tracing::error!(%fault, "the task can be neither finished nor undone: an operator must check it");
        Ok(self.context.report(Report::UndoFailed(fault))?)
    }

    fn ended(&self, outcome: Result<Option<TaskState>, GivenUp>) {
        match outcome {
            Ok(Some(TaskState::Finished)) => self.tell("finished"),
            Ok(Some(TaskState::Recovered)) => self.tell("undone"),
            // The reason was logged when the task was given up.
            Ok(Some(TaskState::Failed)) => self.tell("FAILED"),
            Ok(_) => self.tell("no longer working on the task"),
            Err(GivenUp(fault)) => {
                tracing::warn!(%fault, "leaving the task to the next start of the service")
            }
        }
    }

    /// Writes one log line for the task; none for a no-op, which measures the costs of everything else.
    fn tell(&self, what: &str) {
        if self.operation().is_noop() {
            tracing::debug!("{what}");
        } else {
            tracing::info!("{what}");
        }
    }

    fn operation(&self) -> &Operation {
        // Only an id that was aborted before its start has no operation, and such a task never runs.
        self.task.operation.as_ref().unwrap_or(&Operation::Noop(Noop))
    }

    fn cause(&self) -> Fault {
        let interrupted = || {
            Fault::new(
                FaultCode::Interrupted,
                "the service ended while the task was running",
            )
        };
        self.task.fault.clone().unwrap_or_else(interrupted)
    }
}

/// A panic in an operation fails its own task, and harms no other.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Fault::new(
            FaultCode::Internal,
            "the operation ended in a panic; please report it, with the log",
        ))
    })
}

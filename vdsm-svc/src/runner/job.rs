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

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often a process that outlived SIGKILL is looked for: what keeps it is a disk or a network.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

/// How often an undo is tried on a domain that somebody else writes to, or in a root that is not there.
const AWAY_TRIES: u32 = 10;

/// The rest between two of them.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// How often a run directory is tried that cannot be read: a limit may be met for a moment. Then the task ends with that
/// error, for nothing says that a process is left, and nothing that none is.
const UNREADABLE_TRIES: u32 = 5;

/// The rest between two of them.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Job {
    tools: Tools,
    pool: PoolHandle,
    task: Arc<Task>,
    context: Context,
    /// That in which the operation began: it is wound back there, whatever stands under the root's name by then.
    root: OnceLock<Arc<StorageRoot>>,
}

/// What is still to be done for a task.
pub(super) enum Next {
    /// Nothing is left to do.
    Over,
    /// It took effect, and that is to be reported.
    Report,
}

/// The host refused a report, or stops: this thread has nothing more to do for the task.
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

    /// Does one of the kinds of work below. The task is worked for until all is reported.
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

    /// After a restart found it at work.
    pub(super) fn recover(&self) -> Next {
        self.ended(self.stop_and_conclude(self.cause()));
        Next::Over
    }

    /// The task is no longer worked for.
    fn over(&self) {
        self.tools.log.progress().forget(self.task.id);
        if let Some(root) = self.root.get() {
            op::forget(root, self.task.id);
        }
        self.tools.alive.end_task(self.task.id);
    }

    /// Keeps no thread waiting for the report's commit: nearly always that is all there is to do.
    fn report_effect(self, span: Span) {
        let (tokio, report) = (self.tools.tokio.clone(), self.context.ask(Report::Finished));
        threads::then(&tokio, report, move |answer| {
            if matches!(&answer, Some(Ok(Ok(Answer::Task(task)))) if task.state == TaskState::Finished) {
                span.in_scope(|| self.tell("finished"));
                return self.over();
            }
            // Aborted, or not recorded: it is reported once more, by who may block.
            let pool = self.pool.clone();
            let again = move || {
                span.in_scope(|| self.ended(self.took_effect()));
                self.over();
            };
            pool.run(Box::new(again));
        });
    }

    /// Where an abort won after the operation's last look, what is there is looked at and undone.
    fn took_effect(&self) -> Result<Option<TaskState>, GivenUp> {
        match self.context.report(Report::Finished)? {
            Some(TaskState::Aborting) => self.stop_and_conclude(self.cause()),
            state => Ok(state),
        }
    }

    /// After a failure or an abort. Past the commit point only storage tells whether it took effect, so it is
    /// asked before the failure is called one.
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

    /// No process first, then the undo, then the end: each is durable before the next begins.
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

    /// Returns when no process of the task is left, however long that takes: nothing is undone under one. Where that
    /// cannot be told, however often it is tried, the fault says why: no error counts as a process.
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

    /// Whether nothing was noted, so that nothing was begun: no process either.
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

    /// Where somebody else writes to the domain, or the root is away, that is no reason yet to leave it to people.
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
            // Why was told when it was given up.
            Ok(Some(TaskState::Failed)) => self.tell("FAILED"),
            Ok(_) => self.tell("no longer working on the task"),
            Err(GivenUp(fault)) => {
                tracing::warn!(%fault, "leaving the task to the next start of the service")
            }
        }
    }

    /// A line a task, but none for what only measures everything around it.
    fn tell(&self, what: &str) {
        if self.operation().is_noop() {
            tracing::debug!("{what}");
        } else {
            tracing::info!("{what}");
        }
    }

    fn operation(&self) -> &Operation {
        // Only ids that were aborted before their start have none, and those never run.
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

/// A defect in an operation is a fault of its task, and costs no other.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Fault::new(
            FaultCode::Internal,
            "the operation ended in a panic; please report it, with the log",
        ))
    })
}

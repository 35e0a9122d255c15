//! What an operation is given: notes that are durable before it goes on, and the request to stop.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use common::task::TaskState;
use runtime::coordinator::{Handle, Refusal as NoAnswer};
use runtime::{failpoint, threads};
use tokio::sync::watch;
use vdsm_core::{Answer, Input, Refusal, Report};
use vdsm_storage::OpContext;

use super::Tools;
use crate::alive::AliveTask;
use crate::store::HostMachine;

/// The wait before a report is repeated while the store cannot be written.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// The context of one operation.
pub(super) struct Context {
    tools: Tools,
    task_id: TaskId,
    alive: Arc<AliveTask>,
    /// The newest note, for the undo.
    note: RefCell<Vec<u8>>,
    /// Whether the operation has passed its commit point.
    committing: Cell<bool>,
    /// Whether the service is stopping: no more work may be done for the task, because nothing more can be recorded
    /// of it.
    stopping: Cell<bool>,
}

impl Context {
    pub(super) fn new(tools: Tools, task_id: TaskId, alive: Arc<AliveTask>, note: Vec<u8>) -> Self {
        Self {
            tools,
            task_id,
            alive,
            note: RefCell::new(note),
            committing: Cell::new(false),
            stopping: Cell::new(false),
        }
    }

    pub(super) fn note_now(&self) -> Option<Vec<u8>> {
        let note = self.note.borrow();
        (!note.is_empty()).then(|| note.clone())
    }

    pub(super) fn committing(&self) -> bool {
        self.committing.get()
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Sends a report; the answer comes when the report is durable.
    pub(super) fn ask(
        &self,
        report: Report,
    ) -> impl Future<Output = Result<vdsm_core::Reply, NoAnswer>> + Send + 'static {
        if matches!(report, Report::Finished | Report::Undone | Report::UndoFailed(_)) {
            // The progress is forgotten before the end is shown; nothing can change it any more.
            self.tools.log.progress().forget(self.task_id);
        }
        let input = Input::Report {
            task_id: self.task_id,
            report,
        };
        call(self.tools.coordinator.clone(), input)
    }

    /// Sends a report and returns when it is durable, with the task's state; none if the task is over. While the
    /// store cannot be written the report is repeated, because the outcome of a failed commit is unknown and every
    /// report may come twice.
    ///
    /// # Errors
    /// The host's refusal; `SHUTTING_DOWN` when the service stops.
    pub(super) fn report(&self, report: Report) -> Result<Option<TaskState>, Fault> {
        loop {
            let answer = threads::wait_for(&self.tools.tokio, self.ask(report.clone()));
            match answer.unwrap_or(Err(NoAnswer::Stopping)) {
                Ok(Ok(Answer::Task(task))) => {
                    return Ok(Some(task.state).filter(|state| !state.is_terminal()));
                }
                Ok(Ok(Answer::NoTask | Answer::Owner(_) | Answer::Done)) => return Ok(None),
                Ok(Err(Refusal::Fault(fault))) => return Err(fault),
                Ok(Err(Refusal::LookAgain)) | Err(NoAnswer::StoreUnavailable | NoAnswer::StoreLost(_)) => {
                    threads::sleep(STORE_PAUSE);
                }
                Err(NoAnswer::Stopping) => {
                    self.stopping.set(true);
                    return Err(Fault::new(
                        FaultCode::ShuttingDown,
                        "the service is stopping; its next start decides",
                    ));
                }
            }
        }
    }
}

impl OpContext for Context {
    fn note(&self, note: &[u8], past_no_return: bool) -> Result<(), Fault> {
        self.report(Report::Noted {
            note: note.to_vec(),
            past_no_return,
        })?;
        *self.note.borrow_mut() = note.to_vec();
        Ok(())
    }

    fn commit_point(&self) -> Result<(), Fault> {
        self.report(Report::CommitPoint)?;
        self.committing.set(true);
        Ok(())
    }

    fn aborted(&self) -> bool {
        self.alive.aborted.load(Ordering::Acquire)
    }

    fn fail_point(&self, name: &str) {
        failpoint::hit(name);
        if threads::gone() {
            // Stops as if killed: not one more step.
            self.stopping.set(true);
            std::panic::resume_unwind(Box::new("the process is gone"));
        }
    }

    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.tools
            .log
            .progress()
            .report(self.task_id, done_bytes, total_bytes);
    }
}

async fn call(
    mut coordinator: watch::Receiver<Option<Handle<HostMachine>>>,
    input: Input,
) -> Result<vdsm_core::Reply, NoAnswer> {
    let handle = match coordinator.wait_for(Option::is_some).await {
        Ok(handle) => handle.clone(),
        Err(_) => None,
    };
    match handle {
        Some(handle) => Ok(handle.call(input).await?.reply),
        None => Err(NoAnswer::Stopping),
    }
}

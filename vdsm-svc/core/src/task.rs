//! One task, as it is recorded.

use common::fault::Fault;
use common::id::{EngineId, TaskId};
use common::operation::Operation;
use common::revision::Start as ServiceStart;
use common::task::{IllegalMove, TaskEvent, TaskState};
use common::time::Timestamp;

/// A task's position in the order of acceptance, and the key of its record. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ordinal(pub u64);

/// Who requested a task, and in which start.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The present start of this host's service.
    pub(crate) start: ServiceStart,
    /// None if the caller is not an engine.
    pub(crate) engine_id: Option<EngineId>,
    /// The correlation id, for records and logs.
    pub(crate) correlation_id: String,
}

/// One storage operation that this host runs, or ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its position in the order of acceptance.
    pub ordinal: Ordinal,
    /// The id that the caller has chosen.
    pub id: TaskId,
    /// None if the id was aborted before it was started.
    pub operation: Option<Operation>,
    /// Its state.
    pub state: TaskState,
    /// Counts the changes that watchers see, from 1, without gaps.
    pub sequence: u64,
    /// What stopped it. The first fault is kept.
    pub fault: Option<Fault>,
    /// Why it could not be undone.
    pub undo_fault: Option<Fault>,
    /// An abort was requested.
    pub abort_requested: bool,
    /// It reached its commit point before an abort was requested: it can no longer be aborted.
    pub abort_closed: bool,
    /// Its operation noted that it is past its point of no return: it can only be completed.
    pub past_no_return: bool,
    /// The start of this host's service in which it was last sent; none in records of older builds.
    pub asked_in: Option<ServiceStart>,
    /// It waits until it is sent again: see `is_held_in`.
    pub held: bool,
    /// The note of its operation for the undo; only the operation reads it.
    pub note: Vec<u8>,
    /// The engine that started it.
    pub engine_id: Option<EngineId>,
    /// The correlation id of the caller.
    pub correlation_id: String,
    /// What it waited for when it was queued, for people; empty once it has run.
    pub waiting_for: String,
    /// When it was accepted.
    pub create_time: Timestamp,
    /// When it began to run.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// Its result is recorded elsewhere, or it has expired.
    pub removed: bool,
    /// When that happened; from then on it is kept for a while.
    pub clear_time: Option<Timestamp>,
}

impl Task {
    /// A new task.
    pub(crate) fn init(
        ordinal: Ordinal,
        id: TaskId,
        operation: Option<Operation>,
        asked: Asked,
        now: Timestamp,
    ) -> Self {
        Self {
            ordinal,
            id,
            operation,
            state: TaskState::Init,
            sequence: 1,
            fault: None,
            undo_fault: None,
            abort_requested: false,
            abort_closed: false,
            past_no_return: false,
            asked_in: Some(asked.start),
            held: false,
            note: Vec::new(),
            engine_id: asked.engine_id,
            correlation_id: asked.correlation_id,
            waiting_for: String::new(),
            create_time: now,
            start_time: None,
            end_time: None,
            removed: false,
            clear_time: None,
        }
    }

    /// Whether it is held in this start of its host until its engine sends it again. A task that an earlier start
    /// accepted and did not begin may no longer be wanted: if the host's directory was restored from an older copy,
    /// the engine may know that the task has ended, and what came after.
    pub(crate) fn is_held_in(&self, start: ServiceStart) -> bool {
        let unbegun = matches!(
            self.state,
            TaskState::Init | TaskState::Preparing | TaskState::Queued
        );
        unbegun && self.engine_id.is_some() && self.asked_in != Some(start)
    }

    /// Whether an abort would have an effect.
    pub const fn cancelable(&self) -> bool {
        match self.state {
            TaskState::Init | TaskState::Preparing | TaskState::Queued => true,
            TaskState::Running => !self.abort_closed,
            TaskState::Aborting
            | TaskState::Recovering
            | TaskState::Finished
            | TaskState::Recovered
            | TaskState::Failed => false,
        }
    }

    /// The operation that an abort would undo: none before it has begun, and none once it can no longer be aborted.
    pub fn undoable(&self) -> Option<&Operation> {
        let at_work = matches!(self.state, TaskState::Running) && self.cancelable();
        self.operation.as_ref().filter(|_| at_work)
    }

    /// Whether it runs or is being undone, and so counts as running.
    pub(crate) const fn has_place(&self) -> bool {
        matches!(
            self.state,
            TaskState::Running | TaskState::Aborting | TaskState::Recovering
        )
    }

    /// The task after a transition.
    ///
    /// # Errors
    /// [`IllegalMove`] if its state does not allow the event.
    pub(crate) fn moved(mut self, event: TaskEvent, now: Timestamp) -> Result<Self, IllegalMove> {
        self.state = self.state.next(event)?;
        self.sequence += 1;
        match self.state {
            TaskState::Running => {
                self.start_time = Some(now);
                self.waiting_for.clear();
            }
            state if state.is_terminal() => {
                self.end_time = Some(now);
                self.waiting_for.clear();
                self.held = false;
                // Only the unfinished need it.
                self.note.clear();
            }
            _ => {}
        }
        Ok(self)
    }

    /// Keeps `fault` unless there is one already: later faults never overwrite what stopped a task.
    pub(crate) fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

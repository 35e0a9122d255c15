//! One task, as it is recorded.

use common::fault::Fault;
use common::id::{EngineId, TaskId};
use common::operation::Operation;
use common::revision::Start as ServiceStart;
use common::task::{IllegalMove, TaskEvent, TaskState};
use common::time::Timestamp;

/// A task's place in the order of acceptance, and the key of its record. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ordinal(pub u64);

/// Who asks for a task, and when.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The present start of this host.
    pub(crate) start: ServiceStart,
    /// None where it is no engine.
    pub(crate) engine_id: Option<EngineId>,
    /// For records and logs.
    pub(crate) correlation_id: String,
}

/// One storage operation that this host runs, or ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its place in the order of acceptance.
    pub ordinal: Ordinal,
    /// As the caller chose it.
    pub id: TaskId,
    /// None where the id was aborted before it was ever started.
    pub operation: Option<Operation>,
    /// Where it stands.
    pub state: TaskState,
    /// Counts what watchers are shown of it, from 1, without holes.
    pub sequence: u64,
    /// What stopped it. The first one stays.
    pub fault: Option<Fault>,
    /// Why it could not be undone.
    pub undo_fault: Option<Fault>,
    /// Someone asked that it be stopped.
    pub abort_requested: bool,
    /// It reached its commit point before anybody asked that it be stopped: from here it is not.
    pub abort_closed: bool,
    /// Its operation noted that it is past its point of no return: it goes forward only.
    pub past_no_return: bool,
    /// The start of this host in which it was last asked for; none in records of older builds.
    pub asked_in: Option<ServiceStart>,
    /// It waits until it is asked for again: see `is_held_in`.
    pub held: bool,
    /// What its operation noted for its undoing; only the operation reads it.
    pub note: Vec<u8>,
    /// The engine that started it.
    pub engine_id: Option<EngineId>,
    /// As the caller gave it.
    pub correlation_id: String,
    /// What it waited for when it was queued, in words; empty once it has run.
    pub waiting_for: String,
    /// When it was accepted.
    pub create_time: Timestamp,
    /// When it began to run.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// Its outcome is safe elsewhere.
    pub removed: bool,
    /// When that was said, or its age made it go; from then on it is kept for a while.
    pub clear_time: Option<Timestamp>,
}

impl Task {
    /// As it begins.
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

    /// Whether it waits, in this start of its host, until its engine asks for it again. What an earlier start accepted and
    /// did not begin may be wanted no more: where the host's directory was put back from an older copy, its engine has
    /// heard of the end of it, and of what came after.
    pub(crate) fn is_held_in(&self, start: ServiceStart) -> bool {
        let unbegun = matches!(
            self.state,
            TaskState::Init | TaskState::Preparing | TaskState::Queued
        );
        unbegun && self.engine_id.is_some() && self.asked_in != Some(start)
    }

    /// Whether asking that it be stopped would change anything.
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

    /// The operation that stopping it now would undo: none before it has begun, and once it can be stopped no more.
    pub fn undoable(&self) -> Option<&Operation> {
        let at_work = matches!(self.state, TaskState::Running) && self.cancelable();
        self.operation.as_ref().filter(|_| at_work)
    }

    /// Whether it is at work, or being undone: it has a place among the running ones.
    pub(crate) const fn has_place(&self) -> bool {
        matches!(
            self.state,
            TaskState::Running | TaskState::Aborting | TaskState::Recovering
        )
    }

    /// The same task after one edge.
    ///
    /// # Errors
    /// [`IllegalMove`] where its state does not take the event.
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

    /// Keeps `fault` unless there is one already: what stopped a task is never overwritten by what followed.
    pub(crate) fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

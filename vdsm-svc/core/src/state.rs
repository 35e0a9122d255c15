//! The state of all unfinished tasks, and whose host it is.
//!
//! [`State::apply`] is its only mutator, live and at load. The locks, the run queue and the order of waiting follow
//! from the tasks: a task has its locks exactly when no earlier task needs a conflicting one, so a load in the order
//! of acceptance restores the locks.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::id::{DomainId, StoreId, TaskId};
use common::operation::Operation;
use common::revision::{Revision, Start};
use common::task::TaskState;

use crate::change::Change;
use crate::lock::{CallId, Key, Locks};
use crate::owner::Owner;
use crate::recent::Recent;
use crate::run_queue::{Limits, RunQueue};
use crate::task::{Ordinal, Task};

/// The records that a state is loaded from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The id of the data directory.
    pub store_id: StoreId,
    /// The start of the service.
    pub start: Start,
    /// The last revision.
    pub revision: Revision,
    /// Higher than every ordinal that was ever assigned.
    pub next_ordinal: Ordinal,
    /// The owner of the host.
    pub owner: Option<Owner>,
    /// Every unfinished task.
    pub tasks: Vec<Task>,
    /// The running calls of this process outside of any task, and their locks.
    pub calls: Vec<(CallId, Vec<Key>)>,
}

/// Only used for lookups, never iterated.
#[expect(clippy::disallowed_types, reason = "its order is nobody's")]
type Ordinals = std::collections::HashMap<TaskId, Ordinal>;

/// See the module.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) store_id: StoreId,
    pub(crate) start: Start,
    pub(crate) revision: Revision,
    pub(crate) next_ordinal: Ordinal,
    pub(crate) owner: Option<Owner>,
    tasks: BTreeMap<Ordinal, Arc<Task>>,
    ordinals: Ordinals,
    pub(crate) locks: Locks,
    pub(crate) run_queue: RunQueue,
    pub(crate) recent: Recent,
}

impl State {
    /// Loads the state from records. All locks of unfinished tasks are held when this returns.
    pub fn load(limits: Limits, loaded: Loaded) -> Self {
        let mut state = Self {
            store_id: loaded.store_id,
            start: loaded.start,
            revision: loaded.revision,
            next_ordinal: loaded.next_ordinal,
            owner: loaded.owner,
            tasks: BTreeMap::new(),
            ordinals: Ordinals::new(),
            locks: Locks::default(),
            run_queue: RunQueue::new(limits),
            recent: Recent::new(loaded.revision),
        };
        for (call, keys) in &loaded.calls {
            state.locks.restore_call(*call, keys);
        }
        let mut tasks = loaded.tasks;
        // Running tasks first: they hold their locks, whoever was accepted before them.
        tasks.sort_by_key(|task| (!task.has_place(), task.ordinal));
        for task in tasks {
            if let (true, Some(operation)) = (task.has_place(), &task.operation) {
                state.locks.restore(task.ordinal, operation);
            }
            state.put(Arc::new(task), loaded.revision);
        }
        state
    }

    /// The owner of the host, with the highest epoch seen.
    pub const fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// The last revision.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The unfinished tasks in the order of acceptance.
    pub fn unfinished(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().map(Arc::as_ref)
    }

    /// The number of tasks that run or are being undone.
    pub(crate) const fn running(&self) -> usize {
        self.run_queue.running()
    }

    /// The number of those that work on a domain.
    pub(crate) fn running_in(&self, domain: DomainId) -> usize {
        self.run_queue.running_in(domain)
    }

    /// Whether a task holds all locks that its operation needs.
    pub(crate) fn holds_its_locks(&self, task: &Task) -> bool {
        let operation = task.operation.as_ref();
        operation.is_none_or(|operation| self.locks.has_all(task.ordinal, operation))
    }

    /// An unfinished task.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.at(*self.ordinals.get(&id)?).map(Arc::as_ref)
    }

    pub(crate) fn at(&self, ordinal: Ordinal) -> Option<&Arc<Task>> {
        self.tasks.get(&ordinal)
    }

    /// The same, as a shared reference.
    pub(crate) fn live(&self, id: TaskId) -> Option<Arc<Task>> {
        self.ordinals
            .get(&id)
            .and_then(|ordinal| self.at(*ordinal))
            .cloned()
    }

    /// The number of waiting tasks.
    pub(crate) fn waiting(&self) -> usize {
        self.tasks.len().saturating_sub(self.run_queue.running())
    }

    /// Applies one change, which is or will be recorded in `revision`.
    pub fn apply(&mut self, change: &Change, revision: Revision) {
        match change {
            Change::Task(task) => self.put(Arc::clone(task), revision),
            Change::Noted(task) => {
                self.tasks.insert(task.ordinal, Arc::clone(task));
            }
            Change::Owner(owner) => self.owner = Some(owner.clone()),
            Change::Forgotten { id, .. } => self.recent.forget(*id),
        }
    }

    fn put(&mut self, task: Arc<Task>, revision: Revision) {
        let before = self.tasks.get(&task.ordinal);
        let is_new = before.is_none();
        let had_place = before.is_some_and(|before| before.has_place());
        let was_queued =
            before.is_some_and(|before| before.state == TaskState::Queued && !before.is_held_in(self.start));
        let is_queued = task.state == TaskState::Queued && !task.is_held_in(self.start);
        let lane = lane(&task);
        let ordinal = task.ordinal;
        self.next_ordinal = self.next_ordinal.max(Ordinal(ordinal.0 + 1));

        if task.state.is_terminal() {
            self.tasks.remove(&ordinal);
            self.ordinals.remove(&task.id);
            if had_place {
                self.run_queue.leave(lane);
            } else {
                self.run_queue.withdraw(ordinal, lane);
            }
            let granted = match &task.operation {
                Some(operation) => self.locks.release(ordinal, operation),
                None => Vec::new(),
            };
            self.recent.keep(revision, task);
            self.granted(granted);
            return;
        }

        if task.has_place() && !had_place {
            self.run_queue.enter(ordinal, lane);
        } else if is_queued && !was_queued && self.request(&task) {
            self.run_queue.ready(ordinal, lane);
        }
        if is_new {
            self.ordinals.insert(task.id, ordinal);
        }
        self.tasks.insert(ordinal, task);
    }

    fn request(&mut self, task: &Task) -> bool {
        let operation = task.operation.as_ref();
        operation.is_none_or(|operation| self.locks.request(task.ordinal, operation))
    }

    /// Some tasks got a lock: those that now have all of them are ready to run.
    pub(crate) fn granted(&mut self, ordinals: Vec<Ordinal>) {
        for ordinal in ordinals {
            let Some(task) = self.at(ordinal) else { continue };
            if task.state == TaskState::Queued && self.holds_its_locks(task) {
                let lane = lane(task);
                self.run_queue.ready(ordinal, lane);
            }
        }
    }
}

/// The domain whose limit a task counts for.
pub(crate) fn lane(task: &Task) -> Option<DomainId> {
    task.operation.as_ref().and_then(Operation::domain_id)
}

//! The work of this process: the tasks that threads work on, and the calls that hold locks.
//!
//! This list outlives the machine, which is dropped and loaded again after a failed commit. The mutexes here guard
//! only the list, no state of the host, and are never held across a wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::id::TaskId;
use vdsm_core::{CallId, Key, Task};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    tasks: Mutex<BTreeMap<TaskId, Arc<AliveTask>>>,
    calls: Mutex<BTreeMap<CallId, Vec<Key>>>,
    last_call: AtomicU64,
}

/// A task that a thread of this process works on, or is about to.
#[derive(Debug)]
pub(crate) struct AliveTask {
    /// Whether the task is to stop.
    pub(crate) aborted: AtomicBool,
    /// The task as it was when the work began; the fields that filters compare never change.
    pub(crate) task: Arc<Task>,
}

impl Alive {
    /// The tasks that threads work on.
    pub(crate) fn tasks(&self) -> BTreeSet<TaskId> {
        locked(&self.tasks).keys().copied().collect()
    }

    /// The calls that hold locks, or ask for them.
    pub(crate) fn calls(&self) -> Vec<(CallId, Vec<Key>)> {
        let calls = locked(&self.calls);
        calls.iter().map(|(call, keys)| (*call, keys.clone())).collect()
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<Arc<AliveTask>> {
        locked(&self.tasks).get(&id).cloned()
    }

    pub(crate) fn begin_task(&self, task: Arc<Task>) -> Arc<AliveTask> {
        let id = task.id;
        let alive = Arc::new(AliveTask {
            aborted: AtomicBool::new(false),
            task,
        });
        locked(&self.tasks).insert(id, Arc::clone(&alive));
        alive
    }

    /// Tells a task to stop. Does nothing if no thread works on the task.
    pub(crate) fn abort(&self, id: TaskId) {
        if let Some(task) = self.task(id) {
            task.aborted.store(true, Ordering::Release);
        }
    }

    pub(crate) fn end_task(&self, id: TaskId) {
        locked(&self.tasks).remove(&id);
    }

    pub(crate) fn begin_call(&self, keys: Vec<Key>) -> CallId {
        let call = CallId(self.last_call.fetch_add(1, Ordering::Relaxed));
        locked(&self.calls).insert(call, keys);
        call
    }

    pub(crate) fn end_call(&self, call: CallId) {
        locked(&self.calls).remove(&call);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

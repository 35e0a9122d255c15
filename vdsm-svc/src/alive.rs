//! What goes on in this process: the threads that work for tasks, and the calls that hold locks.
//!
//! It outlives the machine, which is dropped and loaded again when a commit fails. The mutexes here guard no
//! state of the host, only this list, and are never held across anything that waits.

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

/// A task that a thread of this process works for, or is about to.
#[derive(Debug)]
pub(crate) struct AliveTask {
    /// It is to stop.
    pub(crate) aborted: AtomicBool,
    /// As it was when the work began: what a filter looks at never changes.
    pub(crate) task: Arc<Task>,
}

impl Alive {
    /// The tasks that are worked for.
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

    /// Tells a task to stop. One that is not worked for has nothing to stop.
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

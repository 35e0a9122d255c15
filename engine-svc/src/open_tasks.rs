//! The tasks of each host that are not over, as committed, so that reading a host need not read its tasks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use common::id::{HostId, TaskId};

/// A task that has begun, or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtWork {
    pub(crate) task_id: TaskId,
    pub(crate) host_id: HostId,
    pub(crate) is_open: bool,
}

/// The open tasks. Cheap to clone; all clones share one map.
#[derive(Debug, Clone, Default)]
pub struct OpenTasks {
    of: Arc<RwLock<HashMap<HostId, HashSet<TaskId>>>>,
}

impl OpenTasks {
    /// The number of a host's open tasks.
    pub(crate) fn count(&self, host_id: HostId) -> u32 {
        let of = self.of.read().unwrap_or_else(PoisonError::into_inner);
        let count = of.get(&host_id).map_or(0, HashSet::len);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Records which tasks have begun and which are over.
    pub(crate) fn note(&self, changes: &[AtWork]) {
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            if change.is_open {
                of.entry(change.host_id).or_default().insert(change.task_id);
            } else if let Some(open) = of.get_mut(&change.host_id) {
                open.remove(&change.task_id);
                if open.is_empty() {
                    of.remove(&change.host_id);
                }
            }
        }
    }

    /// Forgets all tasks.
    pub(crate) fn clear(&self) {
        self.of.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_said_again_counts_once_and_nothing_is_left_of_what_is_over() {
        let open = OpenTasks::default();
        let host_id = HostId::from_uuid(Uuid::from_u128(1));
        let task = |number, is_open| AtWork {
            task_id: TaskId::from_uuid(Uuid::from_u128(number)),
            host_id,
            is_open,
        };
        open.note(&[task(1, true), task(1, true), task(2, true)]);
        assert_eq!(open.count(host_id), 2);
        assert_eq!(open.count(HostId::from_uuid(Uuid::from_u128(2))), 0);
        open.note(&[task(1, false), task(1, false), task(3, false)]);
        assert_eq!(open.count(host_id), 1);
        open.note(&[task(2, false)]);
        assert!(open.of.read().unwrap().is_empty());
    }
}

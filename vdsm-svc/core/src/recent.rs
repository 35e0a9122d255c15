//! Tasks that have recently left memory.
//!
//! A task leaves memory when it ends. The shell reads the record of an id from the store, and then its input waits in
//! a queue; meanwhile a task with that id may have been accepted and ended, or been cleared. So a decision by
//! [`Known`] first checks here: each change of an ended task is kept, newest last, with its revision. A record that
//! was read at or after the newest revision that was dropped cannot have missed a change; an older one is refused
//! with [`Refusal::LookAgain`], and read again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use common::id::TaskId;
use common::revision::Revision;

use crate::change::Refusal;
use crate::input::Known;
use crate::task::Task;

/// The number that is kept: far more than the changes that are made while an input waits in the coordinator's queue.
const KEPT: usize = 4_096;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Recent {
    tasks: BTreeMap<TaskId, (Revision, Arc<Task>)>,
    order: VecDeque<(Revision, TaskId)>,
    /// A record that was read before this revision may have missed a change.
    floor: Revision,
}

impl Recent {
    /// Knows no change before `floor`.
    pub(crate) const fn new(floor: Revision) -> Self {
        Self {
            tasks: BTreeMap::new(),
            order: VecDeque::new(),
            floor,
        }
    }

    /// An ended task changed in `revision`.
    pub(crate) fn keep(&mut self, revision: Revision, task: Arc<Task>) {
        self.order.push_back((revision, task.id));
        self.tasks.insert(task.id, (revision, task));
        while self.order.len() > KEPT {
            let Some((revision, id)) = self.order.pop_front() else {
                break;
            };
            self.floor = self.floor.max(revision);
            if self.tasks.get(&id).is_some_and(|(newest, _)| *newest == revision) {
                self.tasks.remove(&id);
            }
        }
    }

    /// The record of an id was deleted.
    pub(crate) fn forget(&mut self, id: TaskId) {
        self.tasks.remove(&id);
    }

    /// The record of an id that is not among the unfinished tasks.
    ///
    /// # Errors
    /// [`Refusal::LookAgain`] if the store was read too early.
    pub(crate) fn resolve(&self, id: TaskId, known: Known) -> Result<Option<Arc<Task>>, Refusal> {
        if let Some((_, task)) = self.tasks.get(&id) {
            return Ok(Some(Arc::clone(task)));
        }
        let stale = known.task.as_ref().is_some_and(|task| !task.state.is_terminal());
        if stale || known.revision < self.floor {
            return Err(Refusal::LookAgain);
        }
        Ok(known.task)
    }
}

#[cfg(test)]
mod tests {
    use common::revision::Start;
    use common::task::TaskState;
    use common::time::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::task::{Asked, Ordinal};

    fn over(n: u64) -> Arc<Task> {
        let id = TaskId::from_uuid(Uuid::from_u128(u128::from(n) + 1));
        let asked = Asked {
            start: Start(0),
            engine_id: None,
            correlation_id: String::new(),
        };
        let mut task = Task::init(Ordinal(n), id, None, asked, Timestamp(0));
        task.state = TaskState::Recovered;
        Arc::new(task)
    }

    fn read_at(revision: u64, task: Option<Arc<Task>>) -> Known {
        Known {
            revision: Revision(revision),
            task,
        }
    }

    #[test]
    fn the_newest_change_wins_over_what_was_read() {
        let mut recent = Recent::new(Revision(0));
        let mut removed = over(1);
        recent.keep(Revision(5), over(1));
        Arc::make_mut(&mut removed).removed = true;
        recent.keep(Revision(6), removed.clone());
        assert_eq!(
            recent.resolve(removed.id, read_at(4, Some(over(1)))),
            Ok(Some(removed))
        );
    }

    #[test]
    fn what_was_read_too_early_is_read_again_and_never_believed() {
        let mut recent = Recent::new(Revision(10));
        let id = over(0).id;
        assert_eq!(recent.resolve(id, read_at(9, None)), Err(Refusal::LookAgain));
        assert_eq!(recent.resolve(id, read_at(10, None)), Ok(None));
        for n in 0..=KEPT as u64 {
            recent.keep(Revision(11 + n), over(n));
        }
        assert_eq!(recent.resolve(id, read_at(10, None)), Err(Refusal::LookAgain));
        assert_eq!(recent.resolve(id, read_at(11, Some(over(0)))), Ok(Some(over(0))));
    }

    #[test]
    fn a_record_that_was_unfinished_when_it_was_read_is_read_again() {
        let mut running = over(1);
        Arc::make_mut(&mut running).state = TaskState::Running;
        let recent = Recent::new(Revision(0));
        assert_eq!(
            recent.resolve(running.id, read_at(1, Some(running.clone()))),
            Err(Refusal::LookAgain)
        );
    }
}

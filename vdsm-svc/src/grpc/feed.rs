//! The feed of WatchTasks.

use std::ops::Bound;
use std::sync::Arc;

use ::store::{Order, Reader, StoreError};
use bytes::Bytes;
use common::id::TaskId;
use proto::store::v1::HostHistory;
use runtime::log::Entry;
use runtime::watch::{self, Feed, Page};

use super::filter::Filter;
use crate::alive::Alive;
use crate::presence::Present;
use crate::store::{TASK, decode_task, ordinal_of, shown};

/// The number of records on one page of a snapshot; a record has some 300 bytes, and at most 17 kB.
const PAGE: usize = 200;

/// The tasks that a filter selects.
pub(super) struct TaskFeed {
    filter: Filter,
    alive: Arc<Alive>,
    /// The engine's presence, if an engine opened the stream.
    _present: Option<Present>,
}

impl TaskFeed {
    pub(super) fn new(filter: Filter, alive: Arc<Alive>, present: Option<Present>) -> Self {
        Self {
            filter,
            alive,
            _present: present,
        }
    }
}

impl Feed for TaskFeed {
    type History = HostHistory;

    fn changes(&self, entry: &Entry<HostHistory>) -> Result<Vec<Bytes>, StoreError> {
        watch::selected(&entry.history.tasks, self.filter.is_everything(), |task| {
            self.filter.matches(task)
        })
    }

    /// Every task that is not cleared, however old: an engine that was away finds everything that it must still
    /// settle.
    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = reader.scan(TASK, (from, Bound::Unbounded), Order::Ascending, PAGE)?;
        let whole = records.len() == PAGE;
        let next = records.last().map(|(key, _)| key.clone()).filter(|_| whole);
        let mut items = Vec::new();
        for (key, record) in records {
            match decode_task(ordinal_of(&key)?, &record) {
                Ok(task) => items.push(shown(&task)),
                Err(error) => {
                    tracing::error!(%error, "a record cannot be read and is left out of a snapshot")
                }
            }
        }
        items.retain(|task| self.filter.matches(task));
        Ok(Page::of(items, next))
    }

    fn held_bytes(&self) -> usize {
        self.filter.held_bytes()
    }

    fn selects(&self, task_id: TaskId) -> bool {
        let alive = self.alive.task(task_id);
        alive.is_some_and(|task| self.filter.matches(&shown(&task.task)))
    }
}

//! The feed of `WatchTasks`.

use bytes::Bytes;
use common::id::TaskId;
use common::time::Timestamp;
use proto::store::v1::EngineHistory;
use runtime::log::Entry;
use runtime::watch::{self, Feed, Page};
use store::{Reader, StoreError};

use super::pages;
use crate::grpc::filter::TaskFilter;
use crate::grpc::show::Show;

/// The feed of `WatchTasks`.
pub(crate) struct TaskFeed {
    /// The client's filter.
    pub(crate) filter: TaskFilter,
    /// Tasks that ended before this time are not in the snapshot.
    pub(crate) since: Timestamp,
    /// Fills in the values that are known only at reading.
    pub(crate) show: Show,
}

impl Feed for TaskFeed {
    type History = EngineHistory;

    fn changes(&self, entry: &Entry<EngineHistory>) -> Result<Vec<Bytes>, StoreError> {
        watch::selected(&entry.history.tasks, self.filter.is_empty(), |item| {
            self.filter.selects(item)
        })
    }

    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError> {
        let page = pages::tasks(reader, after, self.since)?;
        let items = page
            .items
            .into_iter()
            .filter(|item| self.filter.selects(item))
            .map(|item| self.show.task(item));
        Ok(Page::of(items, page.next))
    }

    fn held_bytes(&self) -> usize {
        self.filter.held_bytes()
    }

    fn selects(&self, task_id: TaskId) -> bool {
        // This is asked for each sample, so a filter that selects everything reads nothing.
        self.filter.is_empty()
            || self
                .show
                .task_record(task_id)
                .is_some_and(|item| self.filter.selects(&item))
    }
}

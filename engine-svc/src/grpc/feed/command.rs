//! The feed of `WatchCommands`.

use bytes::Bytes;
use common::id::TaskId;
use common::time::Timestamp;
use proto::store::v1::EngineHistory;
use runtime::log::Entry;
use runtime::watch::{self, Feed, Page};
use store::{Reader, StoreError};

use super::pages;
use crate::grpc::filter::CommandFilter;
use crate::grpc::show::Show;

/// The feed of `WatchCommands`.
pub(crate) struct CommandFeed {
    /// The client's filter.
    pub(crate) filter: CommandFilter,
    /// Commands that ended before this time are not in the snapshot.
    pub(crate) since: Timestamp,
    /// Fills in the values that are known only at reading.
    pub(crate) show: Show,
}

impl Feed for CommandFeed {
    type History = EngineHistory;

    fn changes(&self, entry: &Entry<EngineHistory>) -> Result<Vec<Bytes>, StoreError> {
        watch::selected(&entry.history.commands, self.filter.is_every_command(), |item| {
            self.filter.selects(item)
        })
    }

    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError> {
        let page = pages::commands(reader, after, self.since)?;
        let items = page
            .items
            .into_iter()
            .filter(|item| self.filter.selects(item))
            .map(|item| self.show.command(item));
        Ok(Page::of(items, page.next))
    }

    fn held_bytes(&self) -> usize {
        self.filter.held_bytes()
    }

    fn selects(&self, _task_id: TaskId) -> bool {
        false
    }
}

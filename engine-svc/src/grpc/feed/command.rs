//! Commands.

use common::id::TaskId;
use common::time::Timestamp;
use proto::engine::v1::{Command, WatchCommandsResponse};
use proto::store::v1::EngineHistory;
use runtime::log::Entry;
use runtime::store::{Reader, StoreError};
use runtime::watch::{Feed, Frame, Page};

use super::{pages, response};
use crate::grpc::filter::CommandFilter;
use crate::grpc::show::Show;

/// What `WatchCommands` shows.
pub(crate) struct CommandFeed {
    /// What the client selects.
    pub(crate) filter: CommandFilter,
    /// What ended before this is no part of the snapshot.
    pub(crate) since: Timestamp,
    /// Fills in what is known only at reading.
    pub(crate) show: Show,
}

impl Feed for CommandFeed {
    type History = EngineHistory;
    type Item = Command;
    type Response = WatchCommandsResponse;

    fn changes(&self, entry: &Entry<EngineHistory>) -> Vec<Command> {
        let selected = entry
            .history
            .commands
            .iter()
            .filter(|item| self.filter.selects(item));
        selected.cloned().collect()
    }

    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page<Command>, StoreError> {
        let page = pages::commands(reader, after, self.since)?;
        let items = page
            .items
            .into_iter()
            .filter(|item| self.filter.selects(item))
            .map(|item| self.show.command(item));
        Ok(Page {
            items: items.collect(),
            next: page.next,
        })
    }

    fn selects(&self, _task_id: TaskId) -> bool {
        false
    }

    fn response(frame: Frame<Command>) -> WatchCommandsResponse {
        response!(frame, watch_commands_response, WatchCommandsResponse)
    }
}

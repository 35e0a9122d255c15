//! The feed of `WatchEvents`: an event is a single fact, so it appears once and never changes.

use bytes::Bytes;
use common::id::TaskId;
use common::time::Timestamp;
use proto::convert;
use proto::engine::v1::Event;
use proto::store::v1::EngineHistory;
use runtime::log::Entry;
use runtime::watch::{self, Feed, Page};
use store::{Reader, StoreError};

use super::pages;
use crate::grpc::filter::EventFilter;
use crate::store::event;

/// The feed of `WatchEvents`.
#[derive(Debug)]
pub(crate) struct EventFeed {
    /// The client's filter.
    pub(crate) filter: EventFilter,
    /// The snapshot begins with events of this time.
    pub(crate) since: Timestamp,
}

impl Feed for EventFeed {
    type History = EngineHistory;

    fn changes(&self, entry: &Entry<EngineHistory>) -> Result<Vec<Bytes>, StoreError> {
        watch::selected(&entry.history.events, self.filter.is_everything(), |item| {
            self.filter.selects(item)
        })
    }

    /// Newest first, down to the first event that is too old.
    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError> {
        let scan = event::newest(reader, after, pages::PAGE_RECORDS)?;
        let looked_at = scan.found.len();
        let young = |event: &Event| event.time.as_ref().map(convert::from_timestamp) >= Some(self.since);
        let events = scan.found.into_iter().map(|(_, event)| event).take_while(young);
        let mut taken = 0;
        let selected = events
            .inspect(|_| taken += 1)
            .filter(|item| self.filter.selects(item));
        let items: Vec<_> = selected.collect();
        Ok(Page::of(items, scan.next.filter(|_| taken == looked_at)))
    }

    fn held_bytes(&self) -> usize {
        self.filter.held_bytes()
    }

    fn selects(&self, _task_id: TaskId) -> bool {
        false
    }
}

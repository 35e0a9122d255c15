//! The feed of `WatchJobs`: a job is derived from the heads in the history, and from whole trees in the snapshot.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use common::id::{CommandId, TaskId};
use common::time::Timestamp;
use proto::encode;
use proto::engine::v1::Command;
use proto::store::v1::{EngineHistory, JobHead};
use runtime::log::Entry;
use runtime::watch::{self, Feed, Page};
use store::{Reader, StoreError};

use super::pages;
use crate::grpc::filter::CommandFilter;
use crate::grpc::show::Show;
use crate::store::command::COMMANDS;
use crate::store::job;

/// The maximum number of roots whose match is remembered: about as many as change at a time.
const REMEMBERED: usize = 256;

/// The memory that one remembered match takes, in a table that is half full.
const REMEMBERED_BYTES: usize = 48;

/// The feed of `WatchJobs`.
pub(crate) struct JobFeed {
    /// The client's filter, applied to the root.
    pub(crate) filter: CommandFilter,
    /// Jobs that ended before this time are not in the snapshot.
    pub(crate) since: Timestamp,
    /// Knows the progress of tasks, and reads roots.
    pub(crate) show: Show,
    /// The roots that the filter was applied to, with the result. The fields that it compares never change, so each
    /// root is read once.
    pub(crate) selected: Mutex<HashMap<CommandId, bool>>,
}

impl JobFeed {
    fn selects_root(&self, root_command_id: &str) -> bool {
        if self.filter.is_everything() {
            return true;
        }
        let Ok(root_id) = root_command_id.parse() else {
            return false;
        };
        let mut selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(selects) = selected.get(&root_id) {
            return *selects;
        }
        let Some(root) = self.root(root_id) else {
            return false;
        };
        let selects = self.filter.selects(&root);
        if selected.len() >= REMEMBERED {
            selected.clear();
        }
        selected.insert(root_id, selects);
        selects
    }

    fn root(&self, id: CommandId) -> Option<Command> {
        let reader = self.show.log.store().reader().ok()?;
        COMMANDS.get(&*reader, id.as_bytes()).ok()??.command
    }
}

impl Feed for JobFeed {
    type History = EngineHistory;

    fn changes(&self, entry: &Entry<EngineHistory>) -> Result<Vec<Bytes>, StoreError> {
        let mut jobs = Vec::new();
        for head in &entry.history.heads {
            let head: JobHead = watch::read(head)?;
            if self.selects_root(&head.root_command_id) {
                jobs.push(encode::once(&job::of_head(&head)));
            }
        }
        Ok(jobs)
    }

    fn snapshot(&self, reader: &dyn Reader, after: Option<&[u8]>) -> Result<Page, StoreError> {
        let page = pages::trees(reader, after, self.since)?;
        let selected = page.items.into_iter().filter(|tree| {
            let root = tree.root().and_then(|root| root.command.as_ref());
            root.is_some_and(|root| self.filter.selects(root))
        });
        let items = selected.filter_map(|tree| self.show.job(tree));
        Ok(Page::of(items, page.next))
    }

    fn held_bytes(&self) -> usize {
        let remembered = match self.filter.is_everything() {
            true => 0,
            false => REMEMBERED * REMEMBERED_BYTES,
        };
        self.filter.held_bytes() + remembered
    }

    fn selects(&self, task_id: TaskId) -> bool {
        let task = self.show.task_record(task_id);
        task.is_some_and(|task| self.selects_root(&task.root_command_id))
    }
}

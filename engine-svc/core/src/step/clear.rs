//! Clearing: hosts are told that a task's outcome is safe here. Nothing waits for it.
//!
//! A task is CLEARED once its removal was seen on the host's stream: what came before it on the stream has then
//! been taken in, so a stream that is resumed can never show the task again as if it were somebody else's.

use common::id::TaskId;

use super::tx::Tx;
use crate::model::{AsyncTaskEvent, AsyncTaskState};

impl Tx<'_> {
    pub(super) fn cleared(&mut self, task_id: TaskId, sequence: Option<u64>) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        let seen = sequence.is_none_or(|removal| removal <= task.host_sequence);
        if seen && is_being_cleared(task.async_state) {
            self.clear_locally(task_id);
        }
    }

    pub(super) fn clear_failed(&mut self, task_id: TaskId) {
        let task = self.state.task(task_id);
        if task.is_some_and(|task| task.async_state == AsyncTaskState::AttemptingEndAction) {
            self.move_task(task_id, &[AsyncTaskEvent::FailClear], |_| ());
        }
    }
}

pub(super) const fn is_being_cleared(state: AsyncTaskState) -> bool {
    matches!(
        state,
        AsyncTaskState::AttemptingEndAction | AsyncTaskState::ClearFailed
    )
}

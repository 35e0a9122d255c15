//! Clearing: the engine tells hosts that a task's result is recorded. Nothing waits for the clear.
//!
//! A task is CLEARED once the host's stream has shown its removal: everything earlier in the stream has then been
//! taken in, so a resumed stream can never show the task again as if it were a foreign one.

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

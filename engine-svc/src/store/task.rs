//! Tasks.
//!
//! | table | key | value |
//! |---|---|---|
//! | `task` | the task's sequence | `AsyncTaskRecord` |
//! | `task/id` | its id | its sequence |
//! | `task/ended` | the time when the engine knew that it was over, its sequence | nothing |
//! | `task/live` | its sequence | nothing: a foreign task that is part of the working state |

use common::revision::Start;
use engine_core::model::TaskStep;
use engine_core::model::{AsyncTask, AsyncTaskState, Command, Place, Purpose, ReportedState, Settled};
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::async_task;
use proto::store::v1 as records;
use proto::store::v1::AsyncTaskRecord;
use proto::task::v1::{TaskResult, TaskStatus};
use store::Table;

use super::codec::{self, CodecError};
use super::command;
use super::ledger::Ledger;
use crate::verbs;

/// The tables of tasks.
pub(crate) const TASKS: Ledger<AsyncTaskRecord> = Ledger::new(
    Table("task"),
    Table("task/id"),
    Table("task/live"),
    Table("task/ended"),
);

/// Whether more changes of a task may come.
pub(crate) fn is_open(task: &wire::AsyncTask) -> bool {
    task.async_state != i32::from(wire::AsyncTaskState::Cleared)
}

/// A task that a plan would begin.
pub(crate) fn preview(task: &AsyncTask, command: &Command) -> wire::AsyncTask {
    wire::AsyncTask {
        task_id: String::new(),
        async_state: wire::AsyncTaskState::Unspecified.into(),
        step_id: String::new(),
        command_id: String::new(),
        root_command_id: String::new(),
        waiting_for: None,
        create_time: None,
        sequence: 0,
        ..show(task, Some(command))
    }
}

/// A task as it is shown, with the command that it belongs to.
pub(crate) fn show(task: &AsyncTask, command: Option<&Command>) -> wire::AsyncTask {
    let (state, status, result) = reported(task.reported);
    wire::AsyncTask {
        task_id: task.id.to_string(),
        host_id: task.host_id.to_string(),
        purpose: purpose(task.purpose).into(),
        operation: task.operation.as_ref().map(convert::operation_to_wire),
        async_state: async_state(task.async_state).into(),
        state,
        status: status.into(),
        result: result.into(),
        fault: task.fault.as_ref().map(convert::fault_to_wire),
        host_sequence: task.host_sequence,
        sequence: task.sequence,
        resynced: task.resynced,
        cancelable: task.cancelable,
        undo: task.undo.to_string(),
        undo_fault: task.undo_fault.as_ref().map(convert::fault_to_wire),
        step_id: codec::text(task.step.map(|step| step.id)),
        command_id: codec::text(task.command),
        root_command_id: codec::text(task.root),
        command_kind: command
            .map(|command| verbs::kind(command.kind()).into())
            .unwrap_or_default(),
        command_parameters: command.map(|command| verbs::encode(&command.parameters)),
        waiting_for: task.waiting_for.as_ref().map(command::waiting_for),
        user: task.user.clone(),
        correlation_id: task.correlation_id.clone(),
        host_store_id: codec::text(task.store_id),
        create_time: codec::time(task.created),
        end_time: task.ended.map(convert::timestamp),
        host_commit_time: task.host_commit_time.map(convert::timestamp),
        removed: false,
    }
}

/// The record of a task, without its shown part.
pub(crate) fn record(task: &AsyncTask) -> AsyncTaskRecord {
    AsyncTaskRecord {
        task: None,
        tree_sequence: task.tree_sequence,
        place: codec::text(task.place),
        settled: settled(task.settled).into(),
        abort_wanted: task.abort_wanted,
        begun_before: task.begun_before,
        host_start: task.start.map(|start| start.0),
        outlived_a_start: task.outlived_a_start,
    }
}

/// Reads a record back. `seq` is its key.
///
/// # Errors
/// [`CodecError`] for a record that [`record`] did not write.
pub(crate) fn read(seq: u64, record: AsyncTaskRecord) -> Result<AsyncTask, CodecError> {
    let shown = codec::required("task", record.task)?;
    let operation = shown.operation.as_ref();
    let id = codec::id("task_id", &shown.task_id)?;
    let command = codec::optional_id("command_id", &shown.command_id)?;
    let root = codec::optional_id("root_command_id", &shown.root_command_id)?;
    Ok(AsyncTask {
        id,
        seq,
        host_id: codec::id("host_id", &shown.host_id)?,
        purpose: read_purpose(shown.purpose)?,
        operation: operation
            .map(|op| convert::operation_from_wire("operation", Some(op)))
            .transpose()?,
        async_state: read_async_state(shown.async_state)?,
        reported: read_reported(shown.state),
        settled: read_settled(record.settled)?,
        fault: shown.fault.as_ref().map(convert::fault_from_wire),
        host_sequence: shown.host_sequence,
        sequence: shown.sequence,
        resynced: shown.resynced,
        cancelable: shown.cancelable,
        undo: shown.undo.into(),
        undo_fault: shown.undo_fault.as_ref().map(convert::fault_from_wire),
        command,
        root,
        place: read_place(&record.place)?,
        step: command
            .zip(root)
            .map(|(command, root)| TaskStep::of(command, root, id)),
        store_id: codec::optional_id("host_store_id", &shown.host_store_id)?,
        abort_wanted: record.abort_wanted,
        begun_before: record.begun_before,
        start: record.host_start.map(Start),
        outlived_a_start: record.outlived_a_start,
        user: shown.user,
        correlation_id: shown.correlation_id,
        created: codec::read_time("create_time", shown.create_time.as_ref())?,
        ended: shown.end_time.as_ref().map(convert::from_timestamp),
        host_commit_time: shown.host_commit_time.as_ref().map(convert::from_timestamp),
        waiting_for: shown.waiting_for.map(command::read_waiting_for).transpose()?,
        tree_sequence: record.tree_sequence,
    })
}

fn read_place(text: &str) -> Result<Option<Place>, CodecError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error| CodecError::new("place", error))
}

/// The state as the host reported it, with the values derived from it if this build knows the state.
fn reported(reported: Option<ReportedState>) -> (i32, TaskStatus, TaskResult) {
    match reported {
        None => (0, TaskStatus::Unspecified, TaskResult::Unspecified),
        Some(ReportedState::Unknown(state)) => (state, TaskStatus::Unspecified, TaskResult::Unspecified),
        Some(ReportedState::Known(state)) => (
            convert::state_to_wire(state).into(),
            convert::status_to_wire(state.status()),
            convert::result_to_wire(state.result()),
        ),
    }
}

fn read_reported(state: i32) -> Option<ReportedState> {
    match (state, convert::state_from_wire(state)) {
        (0, _) => None,
        (_, Some(known)) => Some(ReportedState::Known(known)),
        (unknown, None) => Some(ReportedState::Unknown(unknown)),
    }
}

const fn purpose(purpose: Purpose) -> async_task::Purpose {
    match purpose {
        Purpose::Do => async_task::Purpose::Do,
        Purpose::Undo => async_task::Purpose::Undo,
        Purpose::Foreign => async_task::Purpose::Foreign,
    }
}

fn read_purpose(value: i32) -> Result<Purpose, CodecError> {
    Ok(match async_task::Purpose::try_from(value) {
        Ok(async_task::Purpose::Do) => Purpose::Do,
        Ok(async_task::Purpose::Undo) => Purpose::Undo,
        Ok(async_task::Purpose::Foreign) => Purpose::Foreign,
        Ok(async_task::Purpose::Unspecified) | Err(_) => return Err(codec::unknown("purpose", value)),
    })
}

const fn async_state(state: AsyncTaskState) -> wire::AsyncTaskState {
    match state {
        AsyncTaskState::Initializing => wire::AsyncTaskState::Initializing,
        AsyncTaskState::Watching => wire::AsyncTaskState::Watching,
        AsyncTaskState::Ended => wire::AsyncTaskState::Ended,
        AsyncTaskState::AttemptingEndAction => wire::AsyncTaskState::AttemptingEndAction,
        AsyncTaskState::ClearFailed => wire::AsyncTaskState::ClearFailed,
        AsyncTaskState::Cleared => wire::AsyncTaskState::Cleared,
    }
}

fn read_async_state(value: i32) -> Result<AsyncTaskState, CodecError> {
    Ok(match wire::AsyncTaskState::try_from(value) {
        Ok(wire::AsyncTaskState::Initializing) => AsyncTaskState::Initializing,
        Ok(wire::AsyncTaskState::Watching) => AsyncTaskState::Watching,
        Ok(wire::AsyncTaskState::Ended) => AsyncTaskState::Ended,
        Ok(wire::AsyncTaskState::AttemptingEndAction) => AsyncTaskState::AttemptingEndAction,
        Ok(wire::AsyncTaskState::ClearFailed) => AsyncTaskState::ClearFailed,
        Ok(wire::AsyncTaskState::Cleared) => AsyncTaskState::Cleared,
        Ok(wire::AsyncTaskState::Unspecified) | Err(_) => return Err(codec::unknown("async_state", value)),
    })
}

const fn settled(settled: Option<Settled>) -> records::Settled {
    match settled {
        None => records::Settled::Unspecified,
        Some(Settled::Refused) => records::Settled::Refused,
        Some(Settled::Done) => records::Settled::Done,
        Some(Settled::Unclear) => records::Settled::Unclear,
    }
}

fn read_settled(value: i32) -> Result<Option<Settled>, CodecError> {
    Ok(match records::Settled::try_from(value) {
        Ok(records::Settled::Unspecified) => None,
        Ok(records::Settled::Refused) => Some(Settled::Refused),
        Ok(records::Settled::Done) => Some(Settled::Done),
        Ok(records::Settled::Unclear) => Some(Settled::Unclear),
        Err(_) => return Err(codec::unknown("settled", value)),
    })
}

//! Records of the sizes and in the tables of the services' own, for the bare parts to write.

use prost::Message;
use proto::encode;
use proto::engine::v1::{AsyncTask, AsyncTaskState, Host};
use proto::host::v1::Task;
use proto::store::v1 as store;
use proto::task::v1::{DeleteImage, Noop, Operation, TaskResult, TaskState, TaskStatus, operation::Verb};

use crate::bare::commit::{Put, Revision};
use crate::clock;

/// A token of the usual length.
pub(crate) const TOKEN: &str = "6ba7b8109dad41d180b400c04fd430c8.0123456789abcdef.1000000";

/// The start and the time before each revision in the history.
const HISTORY_PREFIX: [u8; 16] = [0; 16];

/// The operation that does nothing.
pub(crate) const fn noop() -> Operation {
    Operation {
        verb: Some(Verb::Noop(Noop {})),
    }
}

/// A host's task that was just accepted.
pub(crate) fn host_task(task_id: String, operation: Option<Operation>) -> Task {
    Task {
        task_id,
        operation,
        sequence: 1,
        cancelable: true,
        create_time: Some(clock::now()),
        ..in_state(TaskState::Init)
    }
}

/// An engine's task that has just begun to run, as those who watch see it.
pub(crate) fn async_task(host_id: &str) -> AsyncTask {
    let id = tests::ids::fresh;
    let operation = Operation {
        verb: Some(Verb::DeleteImage(DeleteImage {
            domain_id: id(),
            image_id: id(),
        })),
    };
    AsyncTask {
        task_id: id(),
        host_id: host_id.to_owned(),
        operation: Some(operation),
        async_state: AsyncTaskState::Watching.into(),
        state: TaskState::Running.into(),
        status: TaskStatus::Running.into(),
        host_sequence: 4,
        sequence: 6,
        cancelable: true,
        step_id: id(),
        command_id: id(),
        root_command_id: id(),
        user: "127.0.0.1".to_owned(),
        correlation_id: id(),
        host_store_id: id(),
        create_time: Some(clock::now()),
        host_commit_time: Some(clock::now()),
        ..AsyncTask::default()
    }
}

/// What a host commits when it accepts a task that can run at once: its record, the way to find it by its id, and
/// its edges up to RUNNING.
pub(crate) fn accepted(slot: u64, task: &Task) -> Revision {
    let later = [TaskState::Preparing, TaskState::Queued, TaskState::Running];
    let edges = std::iter::once(task.clone()).chain(later.map(|state| moved(task, state)));
    let mut revision = host_revision(slot, edges.collect());
    let id = uuid::Uuid::try_parse(&task.task_id).unwrap_or_default();
    revision
        .puts
        .push(("task_id", id.into_bytes().to_vec(), key(slot)));
    revision
}

/// What it commits when the task has finished.
pub(crate) fn finished(slot: u64, task: &Task) -> Revision {
    host_revision(slot, vec![moved(task, TaskState::Finished)])
}

/// The task in another state, with what follows from that.
fn moved(task: &Task, state: TaskState) -> Task {
    let started = matches!(state, TaskState::Running | TaskState::Finished);
    Task {
        task_id: task.task_id.clone(),
        operation: task.operation.clone(),
        sequence: u64::try_from(i32::from(state)).unwrap_or_default(),
        cancelable: state != TaskState::Finished,
        create_time: task.create_time,
        start_time: task.create_time.filter(|_| started),
        end_time: task.create_time.filter(|_| state == TaskState::Finished),
        ..in_state(state)
    }
}

fn in_state(state: TaskState) -> Task {
    let (status, result) = match state {
        TaskState::Init => (TaskStatus::Init, TaskResult::Unspecified),
        TaskState::Finished => (TaskStatus::Finished, TaskResult::Success),
        _ => (TaskStatus::Running, TaskResult::Unspecified),
    };
    Task {
        state: state.into(),
        status: status.into(),
        result: result.into(),
        ..Task::default()
    }
}

/// Edges of a task: all in the history, and the last as its record.
fn host_revision(slot: u64, edges: Vec<Task>) -> Revision {
    let record = store::HostTaskRecord {
        task: edges.last().cloned(),
        ..store::HostTaskRecord::default()
    };
    let tasks = edges.iter().map(encode::once).collect();
    Revision {
        history: history(&store::HostHistory { tasks }),
        puts: vec![("task", key(slot), record.encode_to_vec())],
    }
}

fn key(slot: u64) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

/// What an engine commits for an edge of a task that is in no job: its record, the cursor in the record of its
/// host, and the history.
pub(crate) fn engine_revision(slot: u64, task: &AsyncTask, host: &Host) -> Revision {
    let record = store::AsyncTaskRecord {
        task: Some(task.clone()),
        ..store::AsyncTaskRecord::default()
    };
    let shown = store::EngineHistory {
        tasks: vec![encode::once(task)],
        ..store::EngineHistory::default()
    };
    Revision {
        history: history(&shown),
        puts: vec![("task", key(slot), record.encode_to_vec()), host_put(host)],
    }
}

fn host_put(host: &Host) -> Put {
    let record = store::HostRecord {
        host: Some(host.clone()),
        ..store::HostRecord::default()
    };
    ("host", host.host_id.clone().into_bytes(), record.encode_to_vec())
}

fn history(shown: &impl Message) -> Vec<u8> {
    let mut bytes = HISTORY_PREFIX.to_vec();
    // A `Vec` grows as it must.
    shown.encode_raw(&mut bytes);
    bytes
}

//! The frames of a host's stream as inputs of the engine. Values that this build does not know are kept, not dropped.

use common::id::{EngineId, StoreId, TaskId};
use common::revision::Token;
use engine_core::input::{Frame, HostTask};
use engine_core::model::ReportedState;
use proto::convert;
use proto::host::v1::Task;
use proto::host::v1::watch_tasks_response as wire;
use tracing::warn;

/// The meaning of a frame for the follower.
#[derive(Debug)]
pub(super) enum Seen {
    /// The stream over this store is open.
    Opened(Option<StoreId>),
    /// A frame for the engine, with its token if the stream can be resumed after it.
    Frame(Frame, Option<Token>),
    /// The stream is alive.
    Heartbeat {
        /// Whether nothing up to here is missing; false while a snapshot is read.
        whole: bool,
    },
    /// Samples of progress.
    Progress(Vec<proto::task::v1::Progress>),
    /// The host ends the stream on purpose.
    Closing,
    /// A frame of a newer host.
    Unknown,
}

/// Reads a frame.
pub(super) fn read(frame: Option<wire::Frame>) -> Seen {
    match frame {
        Some(wire::Frame::Opened(opened)) => Seen::Opened(opened.store_id.parse().ok()),
        Some(wire::Frame::Snapshot(page)) => Seen::Frame(Frame::Snapshot(tasks(page.items)), None),
        Some(wire::Frame::SnapshotDone(done)) => match done.token.parse::<Token>() {
            Ok(token) => Seen::Frame(Frame::SnapshotDone { token }, Some(token)),
            Err(_) => Seen::Unknown,
        },
        Some(wire::Frame::Changes(changes)) => {
            let token = changes.token.parse::<Token>().ok();
            let time = changes
                .commit_time
                .as_ref()
                .map(convert::from_timestamp)
                .unwrap_or_default();
            let tasks = tasks(changes.items);
            Seen::Frame(Frame::Changes { token, time, tasks }, token)
        }
        Some(wire::Frame::Progress(samples)) => Seen::Progress(samples.items),
        Some(wire::Frame::Heartbeat(beat)) => Seen::Heartbeat {
            whole: !beat.token.is_empty(),
        },
        Some(wire::Frame::Closing(_)) => Seen::Closing,
        None => Seen::Unknown,
    }
}

/// A task without a valid id can be nobody's: it is logged and left out, and harms nothing else.
fn tasks(items: Vec<Task>) -> Vec<HostTask> {
    items.into_iter().filter_map(task).collect()
}

/// A task in the host's words.
pub(super) fn task(task: Task) -> Option<HostTask> {
    let Ok(id) = task.task_id.parse::<TaskId>() else {
        warn!(
            task_id = task.task_id,
            "the host reports a task whose id is not a UUID"
        );
        return None;
    };
    let state = match convert::state_from_wire(task.state) {
        Some(state) => ReportedState::Known(state),
        None => ReportedState::Unknown(task.state),
    };
    Some(HostTask {
        id,
        operation: convert::operation_from_wire("operation", task.operation.as_ref()).ok(),
        state,
        fault: task.fault.as_ref().map(convert::fault_from_wire),
        sequence: task.sequence,
        cancelable: task.cancelable,
        undo: task.undo.into(),
        undo_fault: task.undo_fault.as_ref().map(convert::fault_from_wire),
        waiting_for: task.waiting_for.into(),
        engine_id: task.engine_id.parse::<EngineId>().ok(),
        removed: task.removed,
        correlation_id: task.correlation_id.into(),
        is_held: task.held,
        is_settled: false,
    })
}

#[cfg(test)]
mod tests {
    use common::task::TaskState;

    use super::*;

    #[test]
    fn a_state_of_a_newer_host_is_kept_as_it_came() {
        let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        let of = |state| {
            let wire = Task {
                task_id: id.into(),
                state,
                ..Task::default()
            };
            task(wire).unwrap().state
        };
        assert_eq!(of(4), ReportedState::Known(TaskState::Running));
        assert_eq!(of(77), ReportedState::Unknown(77));
    }

    #[test]
    fn a_task_without_an_id_harms_only_itself() {
        assert_eq!(tasks(vec![Task::default()]), vec![]);
    }
}

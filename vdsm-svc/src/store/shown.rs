//! The shown form of a task.

use proto::convert;
use proto::host::v1 as wire;
use vdsm_core::Task;
use vdsm_storage::op;

/// The task on the wire, including derived values.
pub(crate) fn shown(task: &Task) -> wire::Task {
    wire::Task {
        task_id: task.id.to_string(),
        operation: task.operation.as_ref().map(convert::operation_to_wire),
        state: convert::state_to_wire(task.state).into(),
        status: convert::status_to_wire(task.state.status()).into(),
        result: convert::result_to_wire(task.state.result()).into(),
        fault: task.fault.as_ref().map(convert::fault_to_wire),
        undo_fault: task.undo_fault.as_ref().map(convert::fault_to_wire),
        sequence: task.sequence,
        waiting_for: task.waiting_for.clone(),
        cancelable: task.cancelable(),
        undo: task.undoable().map(op::undo_note).unwrap_or_default().to_owned(),
        abort_requested: task.abort_requested,
        engine_id: task.engine_id.map(|id| id.to_string()).unwrap_or_default(),
        correlation_id: task.correlation_id.clone(),
        create_time: Some(convert::timestamp(task.create_time)),
        start_time: task.start_time.map(convert::timestamp),
        end_time: task.end_time.map(convert::timestamp),
        removed: task.removed,
        held: task.held,
    }
}

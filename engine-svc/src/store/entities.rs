//! Which entities a command or a task is about, for filters by entity. That never changes for an item.

use proto::convert::operation_is_about;
use proto::engine::v1::{AsyncTask, Command};

use crate::verbs;

/// Whether a command is about the entity of this id.
pub(crate) fn command_is_about(command: &Command, entity_id: &str) -> bool {
    command
        .parameters
        .as_ref()
        .is_some_and(|parameters| verbs::names(parameters, entity_id))
}

/// Whether a task is about the entity of this id: by its host, its operation, or its command's parameters.
pub(crate) fn task_is_about(task: &AsyncTask, entity_id: &str) -> bool {
    let by_operation = task
        .operation
        .as_ref()
        .is_some_and(|op| operation_is_about(op, entity_id));
    let by_command = task
        .command_parameters
        .as_ref()
        .is_some_and(|parameters| verbs::names(parameters, entity_id));
    task.host_id == entity_id || by_operation || by_command
}

//! The contract's words as people read them.

use proto::engine::v1::{
    AsyncTaskState, CommandKind, CommandState, EntityKind, EntityRef, StepKind, StepState,
};
use proto::task::v1::{Allocation, TaskState, VolumeFormat};

/// The name of an enum's value without the prefix that its type gives it; the number where it is not known.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $type:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(value: i32) -> String {
            match $type::try_from(value) {
                Ok(known) => known.as_str_name().trim_start_matches($prefix).to_owned(),
                Err(_) => value.to_string(),
            }
        }
    )*};
}

words! {
    /// A task's state.
    task_state: TaskState, "TASK_STATE_";
    /// The engine's state of a task.
    async_state: AsyncTaskState, "ASYNC_TASK_STATE_";
    /// A command's state.
    command_state: CommandState, "COMMAND_STATE_";
    /// A command's kind.
    command_kind: CommandKind, "COMMAND_KIND_";
    /// A step's kind.
    step_kind: StepKind, "STEP_KIND_";
    /// A step's state.
    step_state: StepState, "STEP_STATE_";
    /// A kind of entity.
    entity_kind: EntityKind, "ENTITY_KIND_";
    /// A volume's format.
    format: VolumeFormat, "VOLUME_FORMAT_";
    /// A volume's allocation.
    allocation: Allocation, "ALLOCATION_";
}

/// An entity, with the beginning of its id.
pub fn entity(entity: &EntityRef) -> String {
    format!("{} {}", entity_kind(entity.kind), short(&entity.id))
}

/// The first group of a UUID: enough to tell a few apart.
pub fn short(id: &str) -> &str {
    id.split('-').next().unwrap_or(id)
}

/// Whether a task in this state is over.
pub fn task_is_over(state: i32) -> bool {
    proto::convert::state_from_wire(state).is_some_and(common::TaskState::is_terminal)
}

/// Whether a command in this state has ended.
pub fn command_is_over(state: i32) -> bool {
    matches!(
        CommandState::try_from(state),
        Ok(CommandState::Succeeded | CommandState::Failed | CommandState::Cancelled)
    )
}

//! What people are told about entities that do not exist, and about tasks.

use common::{Fault, FaultCode};

use crate::model::{AsyncTask, CommandParameters as _, EntityKey, Holder, Purpose};
use crate::state::State;
use crate::when::utc;

/// The refusal for an entity that does not exist, by the field that names it. If a command is making or removing the
/// entity, the refusal says so, because a client may have forgotten to wait for that command.
pub(crate) fn absent(state: &State, key: &EntityKey, field: impl std::fmt::Display) -> Fault {
    let Some(Holder::Command {
        command_id,
        user,
        since,
    }) = state.holder(key)
    else {
        return Fault::missing(FaultCode::EntityNotFound, key, "").about(field);
    };
    let makes = state.command(command_id).is_some_and(|command| {
        command.fault.is_none() && !command.cancel_requested && command.parameters.makes()
    });
    let what = if makes { "being made" } else { "being removed" };
    let words = format!(
        "{key} is {what} by command {command_id} of {user} since {}; wait until that command ends (WaitCommand)",
        utc(since)
    );
    Fault::new(FaultCode::EntityBusy, words).about(field)
}

/// A task's work in one line.
pub(crate) fn task_words(task: &AsyncTask) -> String {
    let what = match &task.operation {
        Some(operation) => operation.summary(),
        None => "an operation unknown to this build".to_owned(),
    };
    match task.purpose {
        Purpose::Do => format!("On host {}: {what}", task.host_id),
        Purpose::Undo => format!("Undoing, on host {}: {what}", task.host_id),
        Purpose::Foreign => format!("Somebody else's, on host {}: {what}", task.host_id),
    }
}

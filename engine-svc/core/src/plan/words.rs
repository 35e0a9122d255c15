//! What people are told of what is not there, and of tasks.

use common::{Fault, FaultCode};

use crate::model::{AsyncTask, CommandParameters as _, EntityKey, Holder, Purpose};
use crate::state::State;
use crate::when::utc;

/// The refusal of what is not there, by the field that names it. What a command works on may be about to be: whoever forgot
/// to wait for its making is told so.
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

/// What a task does, in a line.
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

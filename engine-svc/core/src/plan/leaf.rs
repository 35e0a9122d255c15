//! A command without parts, whose work is one task at a time.

use common::Fault;
use common::FaultCode;
use common::fault::FaultKind;

use super::next::{NewTask, Work};
use super::{End, Next, PlannedTask};
use crate::model::{AsyncTask, Command, CommandState, Place, Purpose};
use crate::state::State;

/// The last of its tasks is the one that counts.
pub(super) fn current_task<'a>(state: &'a State, command: &Command) -> Option<(&'a AsyncTask, Place)> {
    let task = state.task(*command.tasks.last()?)?;
    Some((task, task.place?))
}

/// A leaf whose task changed nothing: stopped if that was wanted, whether the abort or a restart of its host came
/// first; failed otherwise.
pub(super) fn untouched(command: &Command, task: &AsyncTask, fault: Fault) -> Next {
    let wanted = task.abort_wanted || command.cancel_requested;
    let idle = fault.code.kind() == FaultKind::Cancelled || fault.code == FaultCode::Interrupted;
    let stopped = wanted && idle;
    Next::End(Box::new(End {
        state: if stopped {
            CommandState::Cancelled
        } else {
            CommandState::Failed
        },
        fault: Some(fault),
        left_behind: Vec::new(),
        inventory: Vec::new(),
    }))
}

pub(super) fn start(purpose: Purpose, place: Place, planned: PlannedTask) -> Next {
    Next::Work(Work {
        start: vec![NewTask {
            purpose,
            place,
            planned,
        }],
        ..Work::default()
    })
}

pub(super) fn first_place(command: &Command) -> Place {
    Place {
        part: 0,
        attempt: command.attempt,
        turn: 1,
    }
}

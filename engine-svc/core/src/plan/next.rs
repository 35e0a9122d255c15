//! The answers of a verb to the question what its command does next.

use common::id::{CommandId, HostId, TaskId};
use common::{Fault, FaultCode, Timestamp};

use super::at::At;
use crate::change::Change;
use crate::model::{
    AsyncTask, Awaited, Command, CommandParameters as _, CommandState, EntityKey, Outcome, Place,
    PlannedTask, Purpose, WaitingFor,
};
use crate::state::State;

/// How often one attempt tries an undo before an operator must look. The host's own queue spaces the tries; a fault
/// that three tries did not get past is seldom gone by the fourth.
pub(crate) const UNDO_TURNS: u32 = 3;

/// What an unfinished command does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// The command rests, and the reason still stands.
    Stay,
    /// The command works on.
    Wait(Awaits),
    /// The command has more to do; then its verb is asked again.
    Work(Work),
    /// No further event would decide by itself: an operator must.
    Rest(Rest),
    /// The command is over.
    End(Box<End>),
}

/// Further work of a command that undoes, or that an operator has had retried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Why the command fails, if nothing made it fail before.
    pub(crate) fault: Option<Fault>,
    /// Tasks below the command that are no longer wanted.
    pub(crate) abort: Vec<TaskId>,
    /// New tasks of the command itself.
    pub(crate) start: Vec<NewTask>,
}

/// A task to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewTask {
    pub(crate) purpose: Purpose,
    pub(crate) place: Place,
    pub(crate) planned: PlannedTask,
}

/// Why a command rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) attention: Fault,
    /// Whether the command can only fail, whatever an operator decides.
    pub(crate) bound_to_fail: bool,
    /// The disks whose state on storage is no longer known.
    pub(crate) inventory: Vec<Change>,
}

/// How a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) state: CommandState,
    pub(crate) fault: Option<Fault>,
    pub(crate) left_behind: Vec<EntityKey>,
    /// The inventory's changes, made together with the end.
    pub(crate) inventory: Vec<Change>,
}

impl End {
    pub(crate) fn succeeded(inventory: Vec<Change>) -> Next {
        Next::End(Box::new(Self {
            state: CommandState::Succeeded,
            fault: None,
            left_behind: Vec::new(),
            inventory,
        }))
    }

    /// All work that had begun is undone: the command failed if something had made it fail, even if somebody stopped
    /// it afterwards; otherwise it was stopped.
    pub(crate) fn undone(command: &Command) -> Next {
        let state = match &command.fault {
            Some(_) => CommandState::Failed,
            None => CommandState::Cancelled,
        };
        Next::End(Box::new(Self {
            state,
            fault: command.fault.clone(),
            left_behind: Vec::new(),
            inventory: Vec::new(),
        }))
    }

    /// The command came to nothing and leaves nothing behind: it was stopped if somebody asked for that, and failed
    /// otherwise.
    pub(crate) fn without_trace(command: &Command, fault: Option<Fault>) -> Next {
        let state = if command.cancel_requested {
            CommandState::Cancelled
        } else {
            CommandState::Failed
        };
        Next::End(Box::new(Self {
            state,
            fault,
            left_behind: Vec::new(),
            inventory: Vec::new(),
        }))
    }
}

/// What a command waits for, with a note for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaits {
    pub(crate) what: Awaited,
    note: &'static str,
}

impl Awaits {
    pub(crate) const fn task(id: TaskId) -> Self {
        Self {
            what: Awaited::Task(id),
            note: "its task to end",
        }
    }

    pub(crate) const fn child(id: CommandId) -> Self {
        Self {
            what: Awaited::Command(id),
            note: "its child commands to end, including this one",
        }
    }

    pub(crate) const fn host(id: HostId) -> Self {
        Self {
            what: Awaited::Host(id),
            note: "the host to answer",
        }
    }

    pub(crate) const fn evidence(id: HostId) -> Self {
        Self {
            what: Awaited::Host(id),
            note: "the host to say what storage shows",
        }
    }

    pub(crate) fn since(self, since: Timestamp) -> WaitingFor {
        WaitingFor {
            what: self.what,
            note: self.note.into(),
            since,
        }
    }
}

/// Only answers of its host move a command that calls its host.
pub(super) fn call_awaited(command: &Command) -> Next {
    match (command.state, command.parameters.called_host()) {
        (CommandState::NeedsAttention, _) | (_, None) => Next::Stay,
        (_, Some(host_id)) => Next::Wait(Awaits::host(host_id)),
    }
}

/// A leaf whose task is not over: the leaf rests while the task needs an operator.
pub(super) fn task_awaited(command: &Command, task: &AsyncTask) -> Next {
    match task.attention() {
        Some(fault) => rest(command, fault.clone(), false),
        None => Next::Wait(Awaits::task(task.id)),
    }
}

/// The command rests, or goes on resting.
pub(crate) fn rest(command: &Command, attention: Fault, bound_to_fail: bool) -> Next {
    match command.state {
        CommandState::NeedsAttention => Next::Stay,
        _ => Next::Rest(Rest {
            attention,
            bound_to_fail,
            inventory: Vec::new(),
        }),
    }
}

/// A parent with unfinished children waits for the child that it waited for before, otherwise for the last one, which
/// usually ends last among equals. The parent rests while one of its children rests.
pub(super) fn children_awaited(at: At<'_>) -> Next {
    let family = at.state.family(at.command.id);
    if let Some((_, resting)) = family.resting.first() {
        return rest_with(at, *resting);
    }
    let present = match &at.command.waiting_for {
        Some(WaitingFor {
            what: Awaited::Command(child),
            ..
        }) => at
            .state
            .command(*child)
            .filter(|c| !c.state.is_terminal())
            .map(|c| c.id),
        _ => None,
    };
    match present.or(family.open.last().map(|(_, id)| *id)) {
        Some(child) => Next::Wait(Awaits::child(child)),
        None => Next::Stay,
    }
}

fn rest_with(at: At<'_>, child: CommandId) -> Next {
    let attention = at.state.command(child).and_then(Command::attention).cloned();
    let attention =
        attention.unwrap_or_else(|| Fault::new(FaultCode::Internal, "a part of it waits for an operator"));
    rest(at.command, attention, false)
}

/// One outcome for each child, in the children's order.
pub(crate) fn outcomes(state: &State, command: &Command) -> Vec<Outcome> {
    let children = command.children.iter().filter_map(|id| state.command(*id));
    children
        .map(|child| Outcome {
            command: child.id,
            kind: child.kind(),
            entity: child.parameters.entity(),
            state: child.state,
            fault: child.fault.clone(),
        })
        .collect()
}

/// The fault of the first part that failed, as the whole command's.
pub(super) fn child_failed(at: At<'_>) -> Option<Fault> {
    let mut faults = at
        .children()
        .filter(|c| c.state != CommandState::Succeeded)
        .filter_map(|c| Some((c, c.fault.as_ref()?)));
    let (child, fault) = faults.next()?;
    let entity = child.parameters.entity();
    Some(Fault::new(FaultCode::ChildFailed, format!("{entity}: {fault}")).about(entity))
}

/// How often one attempt sends the work of a leaf that restarts of its host interrupt. A host that went down three
/// times under the same task should be examined before a fourth try.
pub(crate) const WORK_TURNS: u32 = 3;

/// The place at which a leaf's work is sent again because a restart of its host interrupted and undid it; none if the
/// work is no longer wanted, failed otherwise, or was sent often enough. The repeat is a task with an id of its own:
/// a terminal state is final.
pub(super) fn again(command: &Command, task: &AsyncTask, place: Place, fault: &Fault) -> Option<Place> {
    let wanted = !task.abort_wanted && !command.cancel_requested && command.fault.is_none();
    let more = fault.code == FaultCode::Interrupted && place.turn < WORK_TURNS;
    (wanted && more).then_some(Place {
        turn: place.turn + 1,
        ..place
    })
}

/// The place of the next try of an undo; none if this attempt must not try again by itself.
pub(super) fn next_turn(attempt: u32, part: u32, last: Place, fault: &Fault) -> Option<Place> {
    if last.attempt != attempt {
        return Some(Place {
            part,
            attempt,
            turn: 1,
        });
    }
    let more = last.turn < UNDO_TURNS && fault.code.repeat_may_help();
    more.then_some(Place {
        part,
        attempt,
        turn: last.turn + 1,
    })
}

//! What a verb can answer when it is asked what now.

use common::id::{CommandId, HostId, TaskId};
use common::{Fault, FaultCode, Timestamp};

use super::at::At;
use crate::change::Change;
use crate::model::{
    AsyncTask, Awaited, Command, CommandParameters as _, CommandState, EntityKey, Outcome, Place,
    PlannedTask, Purpose, WaitingFor,
};
use crate::state::State;

/// How often an undo is tried in one attempt before somebody must look. The host's own queue spaces the tries;
/// what three of them did not get through is seldom gone by a fourth.
pub(crate) const UNDO_TURNS: u32 = 3;

/// What is to become of an unfinished command now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It rests, and what it rests for still stands.
    Stay,
    /// It works on.
    Wait(Awaits),
    /// More is to be done; then it is asked again.
    Work(Work),
    /// Nothing that can still happen by itself would decide.
    Rest(Rest),
    /// It is over.
    End(Box<End>),
}

/// More to do for a command that undoes, or that an operator wants tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// What makes it fail, if nothing did before.
    pub(crate) fault: Option<Fault>,
    /// Tasks below it that are no longer wanted.
    pub(crate) abort: Vec<TaskId>,
    /// Tasks of its own.
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
    /// Whatever an operator decides, it can only fail.
    pub(crate) bound_to_fail: bool,
    /// What is no longer known of storage.
    pub(crate) inventory: Vec<Change>,
}

/// How a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) state: CommandState,
    pub(crate) fault: Option<Fault>,
    pub(crate) left_behind: Vec<EntityKey>,
    /// What its end brings, by the same change.
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

    /// All that it had begun is undone: failed where something had made it fail, even if somebody asked for its end
    /// afterwards; else stopped.
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

    /// It did not come about, and nothing is left of it: failed, or stopped where that was asked for.
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

/// What is waited for, in which words.
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

/// A command that calls its host is moved by answers only.
pub(super) fn call_awaited(command: &Command) -> Next {
    match (command.state, command.parameters.called_host()) {
        (CommandState::NeedsAttention, _) | (_, None) => Next::Stay,
        (_, Some(host_id)) => Next::Wait(Awaits::host(host_id)),
    }
}

/// A leaf whose task is not over: rests while the task needs somebody.
pub(super) fn task_awaited(command: &Command, task: &AsyncTask) -> Next {
    match task.attention() {
        Some(fault) => rest(command, fault.clone(), false),
        None => Next::Wait(Awaits::task(task.id)),
    }
}

/// Rests, or stays at rest.
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

/// A parent with unfinished children: waits for the one that it waited for, else for the last, which in a run of
/// equals ends last more often than not. Rests while one of them does.
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

/// One outcome a child, in their order.
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

/// What the first part that failed did to the whole.
pub(super) fn child_failed(at: At<'_>) -> Option<Fault> {
    let mut faults = at
        .children()
        .filter(|c| c.state != CommandState::Succeeded)
        .filter_map(|c| Some((c, c.fault.as_ref()?)));
    let (child, fault) = faults.next()?;
    let entity = child.parameters.entity();
    Some(Fault::new(FaultCode::ChildFailed, format!("{entity}: {fault}")).about(entity))
}

/// How often the work of a leaf is sent in one attempt where its host's restarts interrupt it. A host that fell
/// three times under the same task is better looked at than tried a fourth time.
pub(crate) const WORK_TURNS: u32 = 3;

/// The place at which a leaf's work is sent again, because its host was restarted under it and has undone it; none
/// where it is no longer wanted, failed otherwise, or was sent often enough. It is a task of its own id: a terminal
/// state is final.
pub(super) fn again(command: &Command, task: &AsyncTask, place: Place, fault: &Fault) -> Option<Place> {
    let wanted = !task.abort_wanted && !command.cancel_requested && command.fault.is_none();
    let more = fault.code == FaultCode::Interrupted && place.turn < WORK_TURNS;
    (wanted && more).then_some(Place {
        turn: place.turn + 1,
        ..place
    })
}

/// The place of the next turn of an undo, after those that were tried; none when no more should be tried by
/// itself in this attempt.
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

//! What commands become. `verbs/` has one kind of command a file, always in the order plan (locks, children, tasks), what
//! now, undo, end, tests; what several of them do alike is beside it, and `verb.rs` says what is asked of each.
//!
//! A verb decides nothing in time: `next` says what now, as a function of the recorded state, and may be asked
//! as often as one likes. That is why a restart is no special case.

mod at;
mod deletion;
mod leaf;
mod new_disk;
mod new_image;
mod next;
mod only_part;
mod tree;
mod verb;
mod verbs;
mod words;

use common::id::CommandId;
use common::{Fault, Timestamp};

use crate::model::{
    self, AsyncTask, Command, CommandParameters as _, CommandRequest, CommandState, EntityKey, HostCall,
    Parameters, Requested as _,
};
use crate::state::State;
use at::At;
use verb::{CommandVerb, Leaf, Root, Undo};

pub use verbs::MAX_DISKS;

pub(crate) use next::{Awaits, End, NewTask, Next, Rest, Work, outcomes};
pub(crate) use tree::{Origin, Plan, Records, new_task};
pub(crate) use verb::{Calling, Following};
pub(crate) use words::task_words;

macro_rules! dispatch {
    (roots { $($root:ident $ends:tt;)* } parts { $($part:ident;)* }) => {
        fn verb(parameters: &Parameters) -> &dyn CommandVerb {
            match parameters {
                $(Parameters::$root(p) => p,)*
                $(Parameters::$part(p) => p,)*
            }
        }

        /// The request behind a root, to be planned once more: one that waited for its locks is planned when it starts. None
        /// for a part, which no request asks for.
        pub(crate) fn asked(parameters: &Parameters) -> Option<CommandRequest> {
            match parameters {
                $(Parameters::$root(p) => Some(CommandRequest::$root(p.request())),)*
                $(Parameters::$part(_) => None,)*
            }
        }

        /// What a request would become as the command of this id, if the state allows it.
        pub(crate) fn plan(state: &State, id: CommandId, request: &CommandRequest) -> Result<Plan, Fault> {
            match request {
                $(CommandRequest::$root(request) => <model::$root as Root>::plan(state, id, request),)*
            }
        }
    };
}

crate::commands!(dispatch);

/// What is to become of an unfinished command. `now` only dates records; nothing is decided by it.
pub(crate) fn next(state: &State, command: &Command, now: Timestamp) -> Next {
    verb(&command.parameters).next(At { state, command }, now)
}

/// The verb of a command that calls its host.
pub(crate) fn calling(command: &Command) -> Option<&dyn Calling> {
    verb(&command.parameters).calling()
}

/// The call that the command's host has not answered yet, for commands that call.
pub(crate) fn call(command: &Command) -> Option<HostCall> {
    let stands = |state: CommandState| !state.is_terminal() && state != CommandState::Pending;
    let calling = calling(command).filter(|_| stands(command.state))?;
    Some(calling.call(command))
}

/// What the verdict on a command's present call makes of it.
pub(crate) fn answered(state: &State, command: &Command, result: Result<(), Fault>) -> Next {
    match calling(command) {
        Some(calling) => calling.answered(At { state, command }, result),
        None => Next::Stay,
    }
}

/// What the end of a command means for how its host is followed.
pub(crate) fn ended(state: &State, command: &Command) -> Vec<Following> {
    calling(command).map_or_else(Vec::new, |calling| calling.ended(At { state, command }))
}

/// The state in which an unfinished command is when it does not rest.
pub(crate) fn working_state(state: &State, command: &Command) -> CommandState {
    if verb(&command.parameters).undoing(At { state, command }) {
        CommandState::Compensating
    } else {
        CommandState::Active
    }
}

/// How a command that calls its host ends where it is stopped before the host could hear of it.
pub(crate) fn stopped_unheard(command: &Command) -> Option<Next> {
    let calls = command.parameters.called_host().is_some();
    (calls && !command.call_sent).then(|| End::without_trace(command, None))
}

/// What an unfinished command leaves behind if it is given up now. Its unfinished children name their own.
pub(crate) fn leftovers(state: &State, command: &Command) -> Vec<EntityKey> {
    verb(&command.parameters).leftovers(At { state, command })
}

/// Whether what the parts of a root have made goes again where it is stopped.
pub(crate) fn unmakes_parts(root: &Command) -> bool {
    verb(&root.parameters).unmakes_parts()
}

/// The disk that a command makes by a task, where it is one that does.
pub(crate) fn makes_disk(command: &Command) -> Option<&model::DiskSpec> {
    let image = verb(&command.parameters).leaf()?.new_image()?;
    Some(image.disk())
}

/// The disk that a part has made by a task, as the end of its root brings it; none for a part that makes none.
fn made_disk(part: &Command, now: Timestamp) -> Option<model::Disk> {
    let image = verb(&part.parameters).leaf()?.new_image()?;
    Some(new_image::made(part, image, now))
}

/// Whether storage is to be looked at once more for a task of a command that is over, because an operator wants so.
pub(crate) fn examines_again(command: &Command, task: &AsyncTask) -> bool {
    leaf::examines_again(command, task) && undoable(command).is_some()
}

/// What was seen when storage was looked at again shows nothing of a leaf's work: it is done anew.
pub(crate) fn make_anew(command: &Command) -> Next {
    undoable(command).map_or(Next::Stay, |(leaf, _)| leaf::make_anew(leaf, command))
}

/// What was seen when storage was looked at again is neither done nor undone: it is undone, and the command fails.
pub(crate) fn give_up(command: &Command, fault: Fault) -> Next {
    undoable(command).map_or(Next::Stay, |(_, undo)| leaf::give_up(command, undo, fault))
}

/// A leaf whose work a task can undo, and that task.
fn undoable(command: &Command) -> Option<(&dyn Leaf, model::PlannedTask)> {
    let leaf = verb(&command.parameters).leaf()?;
    match leaf.unmake() {
        Undo::Task(undo) => Some((leaf, undo)),
        Undo::ByHost => None,
    }
}

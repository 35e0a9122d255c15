//! What commands do. `verbs/` has one file for each kind of command, always in the order plan (locks, children,
//! tasks), `next`, undo, end, tests; the code that several kinds share is beside it, and `verb.rs` says what each
//! kind must answer.
//!
//! A verb keeps no state between two calls: `next` is a function of the recorded state, and can be called any number
//! of times. Therefore a restart is no special case.

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

        /// The request behind a root, to plan it once more: a command that waited for its locks is planned when it
        /// starts. None for a part, because no request asks for a part.
        pub(crate) fn asked(parameters: &Parameters) -> Option<CommandRequest> {
            match parameters {
                $(Parameters::$root(p) => Some(CommandRequest::$root(p.request())),)*
                $(Parameters::$part(_) => None,)*
            }
        }

        /// The plan of a request, as the command of this id, if the state allows the request.
        pub(crate) fn plan(state: &State, id: CommandId, request: &CommandRequest) -> Result<Plan, Fault> {
            match request {
                $(CommandRequest::$root(request) => <model::$root as Root>::plan(state, id, request),)*
            }
        }
    };
}

crate::commands!(dispatch);

/// What an unfinished command does next. `now` only dates records; it decides nothing.
pub(crate) fn next(state: &State, command: &Command, now: Timestamp) -> Next {
    verb(&command.parameters).next(At { state, command }, now)
}

/// The verb of a command, if the command calls its host.
pub(crate) fn calling(command: &Command) -> Option<&dyn Calling> {
    verb(&command.parameters).calling()
}

/// The call that the command's host has not answered yet, if the command calls its host.
pub(crate) fn call(command: &Command) -> Option<HostCall> {
    let stands = |state: CommandState| !state.is_terminal() && state != CommandState::Pending;
    let calling = calling(command).filter(|_| stands(command.state))?;
    Some(calling.call(command))
}

/// What a command does after the verdict on its present call.
pub(crate) fn answered(state: &State, command: &Command, result: Result<(), Fault>) -> Next {
    match calling(command) {
        Some(calling) => calling.answered(At { state, command }, result),
        None => Next::Stay,
    }
}

/// What the end of a command changes about how its host is followed.
pub(crate) fn ended(state: &State, command: &Command) -> Vec<Following> {
    calling(command).map_or_else(Vec::new, |calling| calling.ended(At { state, command }))
}

/// The state of an unfinished command that does not rest.
pub(crate) fn working_state(state: &State, command: &Command) -> CommandState {
    if verb(&command.parameters).undoing(At { state, command }) {
        CommandState::Compensating
    } else {
        CommandState::Active
    }
}

/// How a command that calls its host ends if it is stopped before the host can have heard of it.
pub(crate) fn stopped_unheard(command: &Command) -> Option<Next> {
    let calls = command.parameters.called_host().is_some();
    (calls && !command.call_sent).then(|| End::without_trace(command, None))
}

/// What an unfinished command leaves behind if it is given up now. Its unfinished children name their own leftovers.
pub(crate) fn leftovers(state: &State, command: &Command) -> Vec<EntityKey> {
    verb(&command.parameters).leftovers(At { state, command })
}

/// Whether the work of a root's parts is undone if the root is stopped.
pub(crate) fn unmakes_parts(root: &Command) -> bool {
    verb(&root.parameters).unmakes_parts()
}

/// The disk that a command makes by a task, if it makes one.
pub(crate) fn makes_disk(command: &Command) -> Option<&model::DiskSpec> {
    let image = verb(&command.parameters).leaf()?.new_image()?;
    Some(image.disk())
}

/// The disk that a part has made by a task, as the end of its root records it; none for a part that makes no disk.
fn made_disk(part: &Command, now: Timestamp) -> Option<model::Disk> {
    let image = verb(&part.parameters).leaf()?.new_image()?;
    Some(new_image::made(part, image, now))
}

/// Whether an operator wants storage examined once more for a task that is over.
pub(crate) fn examines_again(command: &Command, task: &AsyncTask) -> bool {
    leaf::examines_again(command, task) && undoable(command).is_some()
}

/// The second look at storage shows nothing of a leaf's work: the work is done anew.
pub(crate) fn make_anew(command: &Command) -> Next {
    undoable(command).map_or(Next::Stay, |(leaf, _)| leaf::make_anew(leaf, command))
}

/// The second look at storage shows the task neither done nor undone: its work is undone, and the command fails.
pub(crate) fn give_up(command: &Command, fault: Fault) -> Next {
    undoable(command).map_or(Next::Stay, |(_, undo)| leaf::give_up(command, undo, fault))
}

/// A leaf whose work a task can undo, with that task.
fn undoable(command: &Command) -> Option<(&dyn Leaf, model::PlannedTask)> {
    let leaf = verb(&command.parameters).leaf()?;
    match leaf.unmake() {
        Undo::Task(undo) => Some((leaf, undo)),
        Undo::ByHost => None,
    }
}

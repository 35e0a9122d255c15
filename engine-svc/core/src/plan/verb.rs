//! What the engine asks of each kind of command, and in addition of roots, of leaves, and of commands that call their
//! host.
//!
//! A method has a default only if the default is right for most kinds.

use common::id::{CommandId, VolumeId};
use common::{Fault, Timestamp};

use super::at::At;
use super::next::{Next, rest};
use super::tree::Plan;
use crate::change::Change;
use crate::model::{Command, CommandParameters, DiskSpec, EntityKey, HostCall, PlannedTask, Requested};
use crate::state::State;

/// What a command does, as a function of the recorded state.
pub(crate) trait CommandVerb: CommandParameters {
    /// What the command, which is not over, does next. `now` only dates records; it decides nothing.
    fn next(&self, at: At<'_>, now: Timestamp) -> Next;

    /// What the command, which is not over, leaves behind if it is given up now. Children that are not over name
    /// their own leftovers.
    fn leftovers(&self, _at: At<'_>) -> Vec<EntityKey> {
        vec![self.entity()]
    }

    /// Whether the command, which is not over, undoes its work. A removal, an attachment and a take-over are never
    /// taken back: such a command goes on, or rests.
    fn undoing(&self, _at: At<'_>) -> bool {
        false
    }

    /// Whether the work of the command's parts is undone if the command is stopped.
    fn unmakes_parts(&self) -> bool {
        false
    }

    /// The verb of a command that works by a task of its own.
    fn leaf(&self) -> Option<&dyn Leaf> {
        None
    }

    /// The verb of a command that calls its host.
    fn calling(&self) -> Option<&dyn Calling> {
        None
    }
}

/// A command that a client can request.
pub(crate) trait Root: CommandVerb + Requested {
    /// The plan of the request, as the command of this id, if the state allows the request.
    ///
    /// # Errors
    /// What the request works on does not exist, or what it makes exists already; the fault names the field.
    fn plan(state: &State, id: CommandId, request: &Self::Request) -> Result<Plan, Fault>;
}

/// A command without parts, root or child, whose work is one task at a time. All leaves share one automaton, in
/// `leaf.rs`.
pub(crate) trait Leaf: CommandParameters {
    /// The task that does the work.
    fn make(&self) -> PlannedTask;

    /// How the work of a task is undone that has ended well, or of which nobody can tell.
    fn unmake(&self) -> Undo;

    /// The changes that the task's success brings, made together with the command's end.
    fn done(&self, state: &State) -> Vec<Change>;

    /// The changes that mark disks as no longer known if the task did not end well.
    fn not_done(&self, state: &State, now: Timestamp) -> Vec<Change>;

    /// The image that the task makes, if it makes one.
    fn new_image(&self) -> Option<&dyn NewImage> {
        None
    }
}

/// How a leaf's work is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undo {
    /// By a task of its own.
    Task(PlannedTask),
    /// Never by the engine. The host undoes work that has not taken effect; after that there is no way back, and
    /// half-done work is set right by doing it again.
    ByHost,
}

/// A leaf that makes an image.
pub(crate) trait NewImage {
    /// The disk, as it will be recorded.
    fn disk(&self) -> &DiskSpec;

    /// The disk's volume.
    fn volume_id(&self) -> VolumeId;
}

/// A command that calls its host itself.
pub(crate) trait Calling {
    /// The call that is now due.
    fn call(&self, command: &Command) -> HostCall;

    /// What the command does after the verdict on the call that is due.
    fn answered(&self, at: At<'_>, result: Result<(), Fault>) -> Next;

    /// What the command does if the host's address is answered by another host, or the host has another owner.
    fn refused(&self, command: &Command, fault: Fault) -> Next {
        rest(command, fault, false)
    }

    /// Whether a call undoes what the call does: then the command can be stopped even after its host may have heard
    /// of it.
    fn has_opposite(&self) -> bool;

    /// The address at which the host is to be followed while the command is not over, and the host's identity there,
    /// if the host is not recorded.
    fn follows(&self, _state: &State) -> Option<(&str, &str)> {
        None
    }

    /// Whether the command gives the host up: meanwhile the engine does not claim the host again.
    fn gives_up(&self) -> bool {
        false
    }

    /// What the command's end changes about how the host is followed.
    fn ended(&self, _at: At<'_>) -> Vec<Following> {
        Vec::new()
    }
}

/// What changes about how a host is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    /// The host's stream may have been open before the host was this engine's, and nothing of it was taken in: the
    /// stream begins anew.
    Anew,
    /// Others have changed the host's storage, so it is looked through.
    LookedThrough,
    /// The host is followed no longer.
    NoLonger,
    /// Nothing will be heard of the host's tasks any more.
    TasksForgotten,
}

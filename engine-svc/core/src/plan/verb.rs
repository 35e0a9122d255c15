//! What the engine asks of each kind of command, and of the kinds of kinds: roots, leaves, and commands that call their
//! host.
//!
//! A method has a default only where that is true of most kinds.

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
    /// What is to become of the command, which is not over. `now` only dates records; nothing is decided by it.
    fn next(&self, at: At<'_>, now: Timestamp) -> Next;

    /// What the command, which is not over, leaves behind if it is given up now. Its children that are not over name
    /// their own.
    fn leftovers(&self, _at: At<'_>) -> Vec<EntityKey> {
        vec![self.entity()]
    }

    /// Whether the command, which is not over, undoes what it did. What is removed, attached or taken over is not put
    /// back: it goes on, or rests.
    fn undoing(&self, _at: At<'_>) -> bool {
        false
    }

    /// Whether what its parts have made goes again where the command is stopped.
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

/// A command that comes of a client's request.
pub(crate) trait Root: CommandVerb + Requested {
    /// What the request would become as the command of this id, if the state allows it.
    ///
    /// # Errors
    /// What the request works on is not there, or what it makes is there already; the fault names the field.
    fn plan(state: &State, id: CommandId, request: &Self::Request) -> Result<Plan, Fault>;
}

/// A command without parts, root or child, whose work is one task at a time. All leaves have one automaton, in `plan/leaf.rs`.
pub(crate) trait Leaf: CommandParameters {
    /// The task that does it.
    fn make(&self) -> PlannedTask;

    /// Undo, of a task that has ended well or that nobody can tell of.
    fn unmake(&self) -> Undo;

    /// What the success of the task brings, by the change that ends the command.
    fn done(&self, state: &State) -> Vec<Change>;

    /// What is no longer known of storage where the task did not end well.
    fn not_done(&self, state: &State, now: Timestamp) -> Vec<Change>;

    /// The image that the task makes.
    fn new_image(&self) -> Option<&dyn NewImage> {
        None
    }
}

/// How what a leaf did is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undo {
    /// By a task of its own.
    Task(PlannedTask),
    /// Never by the engine. Its host undoes what has not taken effect; past that there is no way back, and what is left is
    /// set right by doing it again.
    ByHost,
}

/// A leaf that makes an image.
pub(crate) trait NewImage {
    /// The disk, as it will be.
    fn disk(&self) -> &DiskSpec;

    /// Its volume.
    fn volume_id(&self) -> VolumeId;
}

/// A command that calls its host by itself.
pub(crate) trait Calling {
    /// The call that is now due.
    fn call(&self, command: &Command) -> HostCall;

    /// What the verdict on the call that is due makes of the command.
    fn answered(&self, at: At<'_>, result: Result<(), Fault>) -> Next;

    /// What it makes of the command that whoever answers at the host's address is not the host, or has another owner.
    fn refused(&self, command: &Command, fault: Fault) -> Next {
        rest(command, fault, false)
    }

    /// Whether there is a call that undoes what the call does: then the command can be stopped after its host may have
    /// heard of it.
    fn has_opposite(&self) -> bool;

    /// The address at which the host is to be followed while the command is not over, and its identity there, where the host
    /// is not recorded.
    fn follows(&self, _state: &State) -> Option<(&str, &str)> {
        None
    }

    /// Whether it gives the host up: the host is not taken anew meanwhile.
    fn gives_up(&self) -> bool {
        false
    }

    /// What its end means for how the host is followed.
    fn ended(&self, _at: At<'_>) -> Vec<Following> {
        Vec::new()
    }
}

/// What changes about how a host is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    /// Its stream may be open since before the host was this engine's, and nothing of it was taken in: it begins anew.
    Anew,
    /// Others have changed what is on its storage, which is looked through.
    LookedThrough,
    /// It is followed no longer.
    NoLonger,
    /// Nothing will be heard of its tasks any more.
    TasksForgotten,
}

//! The engine's records of tasks on hosts.

use std::fmt;
use std::str::FromStr;

use common::id::{CommandId, HostId, StoreId, TaskId};
use common::{Fault, FaultCode, Operation, Start, TaskState, Timestamp, Words};

use super::{Awaited, EntityKey, TaskStep, WaitingFor};

/// The purpose of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// It does the work of its command.
    Do,
    /// It undoes the work of its command.
    Undo,
    /// A foreign task: it is shown, holds its entities, and is left alone.
    Foreign,
}

/// The state of the engine's record of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsyncTaskState {
    /// Recorded; the host has not accepted it, or no longer shows it.
    Initializing,
    /// Accepted; its changes arrive on the host's stream.
    Watching,
    /// It has ended; its tree has not.
    Ended,
    /// Its tree has ended; the host has not yet confirmed the clear.
    AttemptingEndAction,
    /// The clear failed; it is retried, and blocks nothing.
    ClearFailed,
    /// The final state.
    Cleared,
}

impl AsyncTaskState {
    /// Whether the task itself has ended.
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Initializing | Self::Watching)
    }
}

/// A state as the host reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportedState {
    /// A state that this build knows.
    Known(TaskState),
    /// A state of a newer peer, kept unchanged. Never taken for an end.
    Unknown(i32),
}

impl ReportedState {
    /// Whether the host says that the task has ended.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Known(state) => state.is_terminal(),
            Self::Unknown(_) => false,
        }
    }
}

/// How a task was settled if its host's record could not decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Settled {
    /// The host refused it for good: it never ran, and the host has no record of it.
    Refused,
    /// The host lost its records, and storage shows that the operation is complete.
    Done,
    /// The host lost its records, nothing of the task runs, and storage does not show what became of it.
    Unclear,
}

/// The work of a leaf on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedTask {
    pub(crate) host_id: HostId,
    pub(crate) operation: Operation,
}

/// A task's place in its command, from which its id is derived: planning it twice gives the same task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the child whose work it undoes, counted from 1; 0 for the command's own work.
    pub part: u32,
    /// The command's attempt that it belongs to.
    pub attempt: u32,
    /// Counts the tries of that attempt from 1.
    pub turn: u32,
}

/// A text that is not a [`Place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a location: three numbers with slashes between them")]
pub struct PlaceError;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.part, self.attempt, self.turn)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let mut numbers = text.split('/').map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(part)), Some(Ok(attempt)), Some(Ok(turn)), None) => Ok(Self { part, attempt, turn }),
            _ => Err(PlaceError),
        }
    }
}

/// What became of a task's operation, once the task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It took effect, or there was nothing for it to do.
    Done,
    /// It changed nothing, because of this.
    Untouched(Fault),
    /// It was neither done nor undone, or this is unknown.
    Unclear(Fault),
}

/// The engine's record of a task on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncTask {
    /// Its id, on both sides.
    pub id: TaskId,
    /// The order of recording; the key of its record.
    pub seq: u64,
    /// The host that runs it.
    pub host_id: HostId,
    /// Its purpose.
    pub purpose: Purpose,
    /// Its operation. None only for a foreign task with a verb that this build does not know.
    pub operation: Option<Operation>,
    /// The state of the record.
    pub async_state: AsyncTaskState,
    /// As last reported; none before the host reported any.
    pub reported: Option<ReportedState>,
    /// How it was decided without its host's record.
    pub settled: Option<Settled>,
    /// The first fault that was reported for it.
    pub fault: Option<Fault>,
    /// The host's count of its changes; 0 before any was seen in the host's present store.
    pub host_sequence: u64,
    /// Counts this record's changes from 1, without holes.
    pub sequence: u64,
    /// States between the last one and this one may have been missed.
    pub resynced: bool,
    /// Whether the host would abort it.
    pub cancelable: bool,
    /// What an abort would undo, in the host's words.
    pub undo: Words,
    /// Why its host could not undo it.
    pub undo_fault: Option<Fault>,
    /// None for a foreign one.
    pub command: Option<CommandId>,
    /// None for a foreign one.
    pub root: Option<CommandId>,
    /// None for a foreign one.
    pub place: Option<Place>,
    /// None for a foreign one.
    pub step: Option<TaskStep>,
    /// The host's store that it is addressed to. Where it is another than the host's present one, the task is
    /// undecided: that store's memory is lost, and only storage can tell what became of it.
    pub store_id: Option<StoreId>,
    /// The start of its host that is known to know it, or that it was first sent to; none before it was sent. Where the
    /// host's present start is another one, and nothing of the task was seen on its stream, the host may have lost its
    /// memory of it.
    pub start: Option<Start>,
    /// Its host was started anew since it was sent, perhaps from an older copy of its directory: that it was undone is
    /// believed only where storage shows it.
    pub outlived_a_start: bool,
    /// It is to be stopped: what goes to the host is an abort, even if it never heard of the task.
    pub abort_wanted: bool,
    /// A store of its host that is lost had begun it, and an empty image is left of that, which the task takes over
    /// when it runs; where it never does, somebody else must remove it.
    pub begun_before: bool,
    /// Whose command it is part of.
    pub user: String,
    /// Correlates the work of both services.
    pub correlation_id: String,
    /// When it was recorded.
    pub created: Timestamp,
    /// When the engine knew that it was over.
    pub ended: Option<Timestamp>,
    /// When the host committed the last change.
    pub host_commit_time: Option<Timestamp>,
    /// None once it is over and decided.
    pub waiting_for: Option<WaitingFor>,
    /// The count of its tree's changes at its last change; 0 for a foreign one.
    pub tree_sequence: u64,
}

impl AsyncTask {
    /// Whether it may still run, as far as the engine knows.
    pub const fn is_open(&self) -> bool {
        !self.async_state.is_over()
    }

    /// What a task waits for where nothing is wrong, with its host's words for it.
    pub(crate) fn waits_for(
        state: AsyncTaskState,
        host_id: HostId,
        words: &str,
        since: Timestamp,
    ) -> Option<WaitingFor> {
        let note = match (state, words) {
            (AsyncTaskState::Initializing, _) => "the host to accept it",
            (AsyncTaskState::Watching, "") => "the host to finish it",
            (AsyncTaskState::Watching, words) => words,
            _ => return None,
        };
        Some(WaitingFor {
            what: Awaited::Host(host_id),
            note: note.into(),
            since,
        })
    }

    /// Whether it is from before this start of its host.
    pub(crate) fn has_outlived(&self, start: Option<Start>) -> bool {
        self.start.is_some() && self.start != start
    }

    /// This start of its host knows it.
    pub(crate) fn met(&mut self, start: Option<Start>) {
        self.outlived_a_start |= self.has_outlived(start);
        self.start = start;
    }

    /// Its host says that it was undone, and storage has not yet been asked.
    pub fn is_doubted(&self) -> bool {
        self.is_open() && self.reported.is_some_and(ReportedState::is_terminal)
    }

    /// Why it needs an operator, while it does.
    pub const fn attention(&self) -> Option<&Fault> {
        match &self.waiting_for {
            Some(WaitingFor {
                what: Awaited::Attention(fault),
                ..
            }) => Some(fault),
            _ => None,
        }
    }

    /// What became of it; none while it is open.
    pub fn ending(&self) -> Option<Ending> {
        if self.is_open() {
            return None;
        }
        let fault = |code, text: &str| self.fault.clone().unwrap_or_else(|| Fault::new(code, text));
        Some(match (self.settled, self.reported) {
            (Some(Settled::Done), _) => Ending::Done,
            (Some(Settled::Unclear), _) => Ending::Unclear(fault(
                FaultCode::EvidenceMissing,
                "the host lost its records, and storage does not show whether the task was done or undone",
            )),
            (None, Some(ReportedState::Known(TaskState::Finished))) => Ending::Done,
            (Some(Settled::Refused), _) | (None, Some(ReportedState::Known(TaskState::Recovered))) => {
                match fault(FaultCode::Aborted, "it was stopped and undone") {
                    gone if self.nothing_to_delete(&gone) => Ending::Done,
                    fault => Ending::Untouched(fault),
                }
            }
            (None, _) => Ending::Unclear(
                self.neither(fault(FaultCode::UndoFailed, "what it began could not be undone")),
            ),
        })
    }

    /// What stopped it, and why it could not be undone, where that is another thing: who must look needs both.
    fn neither(&self, mut fault: Fault) -> Fault {
        if let Some(undo) = self.undo_fault.as_ref().filter(|undo| **undo != fault) {
            let message = format!(
                "{}; and what it had begun could not be undone: {undo}",
                fault.message
            );
            fault.message = message.into();
        }
        fault
    }

    /// A deletion that found nothing is as good as one that deleted.
    fn nothing_to_delete(&self, fault: &Fault) -> bool {
        matches!(self.operation, Some(Operation::DeleteImage(_))) && fault.code == FaultCode::ImageNotFound
    }

    /// What it works on, what it changes first.
    pub fn entities(&self) -> Vec<EntityKey> {
        let Some(operation) = &self.operation else {
            return Vec::new();
        };
        let disks = operation.touches().into_iter();
        let disks = disks.map(|touch| EntityKey::Disk(touch.image.disk()));
        disks
            .chain(operation.domains().into_iter().map(EntityKey::Domain))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_it_was_printed() {
        let place = Place {
            part: 3,
            attempt: 1,
            turn: 2,
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "1/2", "1/2/3/4", "a/1/1", "-1/1/1"] {
            assert_eq!(text.parse::<Place>(), Err(PlaceError), "{text:?}");
        }
    }
}

//! The transition tables of commands and of the engine's records of tasks. There are no other transitions: only
//! `step/tx.rs` changes states, by [`CommandState::next`] and [`AsyncTaskState::next`].

use common::id::{CommandId, TaskId};

use super::{AsyncTaskState, CommandState};

/// An event in the life of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandEvent {
    /// It has its locks, and its plan is made.
    Start,
    /// It continues.
    Work,
    /// What it has done is to be undone.
    Undo,
    /// It needs a decision of an operator.
    Rest,
    /// Everything was done.
    Succeed,
    /// It was not done.
    Fail,
    /// It was cancelled, and nothing was changed.
    Cancel,
    /// An operator abandoned it.
    Abandon,
}

/// An event in the life of the engine's record of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsyncTaskEvent {
    /// Its host has accepted it, or shows that it runs.
    Accept,
    /// It is to be sent to its host again: the host holds it, does not show it, or lost its record.
    AskAgain,
    /// It has ended. Also if storage is checked again for a task that was unclear.
    End,
    /// Its tree has ended, and its host is to clear it.
    Release,
    /// Its host could not clear it.
    FailClear,
    /// Nothing of it is left on its host.
    Clear,
    /// It is a foreign task, and is gone.
    Vanish,
}

/// A transition that is not in the tables: a defect of this program, never of a peer or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IllegalMove {
    /// An event that a command's state does not allow.
    #[error("a command that is {state:?} does not take {event:?}")]
    Command {
        /// The state that it is in.
        state: CommandState,
        /// The event that came.
        event: CommandEvent,
    },
    /// An event that a task's state does not allow.
    #[error("a task that is {state:?} does not take {event:?}")]
    Task {
        /// The state that it is in.
        state: AsyncTaskState,
        /// The event that came.
        event: AsyncTaskEvent,
    },
    /// A command's state was set without an event.
    #[error("command {0} was moved without an event")]
    CommandSet(CommandId),
    /// A task's state was set without an event.
    #[error("task {0} was moved without an event")]
    TaskSet(TaskId),
}

impl CommandEvent {
    /// Every event.
    pub const ALL: [CommandEvent; 8] = [
        Self::Start,
        Self::Work,
        Self::Undo,
        Self::Rest,
        Self::Succeed,
        Self::Fail,
        Self::Cancel,
        Self::Abandon,
    ];
}

impl CommandEvent {
    /// The event by which a verb's decision leads to `state`; none where no decision does.
    pub const fn to(state: CommandState) -> Option<Self> {
        match state {
            CommandState::Active => Some(Self::Work),
            CommandState::Compensating => Some(Self::Undo),
            CommandState::NeedsAttention => Some(Self::Rest),
            CommandState::Succeeded => Some(Self::Succeed),
            CommandState::Failed => Some(Self::Fail),
            CommandState::Cancelled => Some(Self::Cancel),
            CommandState::Pending => None,
        }
    }
}

impl AsyncTaskEvent {
    /// Every event.
    pub const ALL: [AsyncTaskEvent; 7] = [
        Self::Accept,
        Self::AskAgain,
        Self::End,
        Self::Release,
        Self::FailClear,
        Self::Clear,
        Self::Vanish,
    ];
}

impl CommandState {
    /// Every state, in the normal order.
    pub const ALL: [CommandState; 7] = [
        Self::Pending,
        Self::Active,
        Self::Compensating,
        Self::NeedsAttention,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether a command may be recorded in it first. A part is never PENDING: its root has the locks of all.
    pub const fn is_first(self) -> bool {
        matches!(self, Self::Pending | Self::Active)
    }

    /// The only table of legal transitions.
    ///
    /// | from | Start | Work | Undo | Rest | Succeed | Fail | Cancel | Abandon |
    /// |---|---|---|---|---|---|---|---|---|
    /// | PENDING | ACTIVE | | | | | FAILED | CANCELLED | |
    /// | ACTIVE | | ACTIVE | COMPENSATING | NEEDS_ATTENTION | SUCCEEDED | FAILED | CANCELLED | FAILED |
    /// | COMPENSATING | | | COMPENSATING | NEEDS_ATTENTION | | FAILED | CANCELLED | |
    /// | NEEDS_ATTENTION | | ACTIVE | COMPENSATING | | SUCCEEDED | FAILED | CANCELLED | FAILED |
    ///
    /// Nothing leaves SUCCEEDED, FAILED or CANCELLED.
    ///
    /// # Errors
    /// [`IllegalMove::Command`] for a pair that is not in the table.
    pub const fn next(self, event: CommandEvent) -> Result<CommandState, IllegalMove> {
        use CommandEvent as E;
        use CommandState as S;
        Ok(match (self, event) {
            (S::Pending, E::Start) => S::Active,
            (S::Active | S::NeedsAttention, E::Work) => S::Active,
            (S::Active | S::Compensating | S::NeedsAttention, E::Undo) => S::Compensating,
            (S::Active | S::Compensating, E::Rest) => S::NeedsAttention,
            (S::Active | S::NeedsAttention, E::Succeed) => S::Succeeded,
            (S::Pending | S::Active | S::Compensating | S::NeedsAttention, E::Fail) => S::Failed,
            (S::Pending | S::Active | S::Compensating | S::NeedsAttention, E::Cancel) => S::Cancelled,
            (S::Active | S::NeedsAttention, E::Abandon) => S::Failed,
            (state, event) => return Err(IllegalMove::Command { state, event }),
        })
    }
}

impl AsyncTaskState {
    /// Every state, in the normal order.
    pub const ALL: [AsyncTaskState; 6] = [
        Self::Initializing,
        Self::Watching,
        Self::Ended,
        Self::AttemptingEndAction,
        Self::ClearFailed,
        Self::Cleared,
    ];

    /// The only table of legal transitions.
    ///
    /// | from | Accept | AskAgain | End | Release | FailClear | Clear | Vanish |
    /// |---|---|---|---|---|---|---|---|
    /// | INITIALIZING | WATCHING | INITIALIZING | ENDED | | | | CLEARED |
    /// | WATCHING | WATCHING | INITIALIZING | ENDED | | | | CLEARED |
    /// | ENDED | | | ENDED | ATTEMPTING_END_ACTION | | CLEARED | CLEARED |
    /// | ATTEMPTING_END_ACTION | | | | | CLEAR_FAILED | CLEARED | |
    /// | CLEAR_FAILED | | | | | | CLEARED | |
    ///
    /// Nothing leaves CLEARED.
    ///
    /// # Errors
    /// [`IllegalMove::Task`] for a pair that is not in the table.
    pub const fn next(self, event: AsyncTaskEvent) -> Result<AsyncTaskState, IllegalMove> {
        use AsyncTaskEvent as E;
        use AsyncTaskState as S;
        Ok(match (self, event) {
            (S::Initializing | S::Watching, E::Accept) => S::Watching,
            (S::Initializing | S::Watching, E::AskAgain) => S::Initializing,
            (S::Initializing | S::Watching | S::Ended, E::End) => S::Ended,
            (S::Ended, E::Release) => S::AttemptingEndAction,
            (S::AttemptingEndAction, E::FailClear) => S::ClearFailed,
            (S::Ended | S::AttemptingEndAction | S::ClearFailed, E::Clear) => S::Cleared,
            (S::Initializing | S::Watching | S::Ended, E::Vanish) => S::Cleared,
            (state, event) => return Err(IllegalMove::Task { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_final() {
        for state in CommandState::ALL.into_iter().filter(|state| state.is_terminal()) {
            for event in CommandEvent::ALL {
                assert_eq!(state.next(event), Err(IllegalMove::Command { state, event }));
            }
        }
        for event in AsyncTaskEvent::ALL {
            assert!(AsyncTaskState::Cleared.next(event).is_err(), "{event:?}");
        }
    }

    #[test]
    fn what_is_over_of_a_task_never_runs_again() {
        for state in AsyncTaskState::ALL.into_iter().filter(|state| state.is_over()) {
            for next in AsyncTaskEvent::ALL.into_iter().filter_map(|e| state.next(e).ok()) {
                assert!(next.is_over(), "{state:?} {next:?}");
            }
        }
    }

    #[test]
    fn every_state_is_reached_from_a_first_one_and_can_reach_an_end() {
        let commands = |from: Vec<CommandState>| {
            reached(from, |state| {
                CommandEvent::ALL
                    .into_iter()
                    .filter_map(|event| state.next(event).ok())
                    .collect()
            })
        };
        let first = CommandState::ALL.into_iter().filter(|state| state.is_first());
        assert_eq!(commands(first.collect()).len(), CommandState::ALL.len());
        for state in CommandState::ALL {
            assert!(
                commands(vec![state]).iter().any(|state| state.is_terminal()),
                "{state:?}"
            );
        }
        let tasks = |from: Vec<AsyncTaskState>| {
            reached(from, |state| {
                AsyncTaskEvent::ALL
                    .into_iter()
                    .filter_map(|event| state.next(event).ok())
                    .collect()
            })
        };
        assert_eq!(
            tasks(vec![AsyncTaskState::Initializing]).len(),
            AsyncTaskState::ALL.len()
        );
        for state in AsyncTaskState::ALL {
            assert!(tasks(vec![state]).contains(&AsyncTaskState::Cleared), "{state:?}");
        }
    }

    fn reached<S: Copy + PartialEq>(mut reached: Vec<S>, next: impl Fn(S) -> Vec<S>) -> Vec<S> {
        let mut at = 0;
        while let Some(state) = reached.get(at).copied() {
            for next in next(state) {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
            at += 1;
        }
        reached
    }
}

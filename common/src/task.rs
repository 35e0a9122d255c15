//! The states of a task on its host, and what is derived from them.
//!
//! Normally `INIT → PREPARING → QUEUED → RUNNING → FINISHED`, otherwise `ABORTING → RECOVERING → RECOVERED | FAILED`.
//! Three states are terminal.

/// The state of a task on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Recorded; nothing is decided yet.
    Init,
    /// Accepted; its requirements are being checked.
    Preparing,
    /// Waits for a lock or for its turn to run.
    Queued,
    /// The operation is running.
    Running,
    /// The operation took effect.
    Finished,
    /// It is being aborted; one of its processes may still run.
    Aborting,
    /// Nothing of it runs any more; it is being undone.
    Recovering,
    /// It was undone.
    Recovered,
    /// It could be neither finished nor undone.
    Failed,
}

/// An event in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// The host accepts it.
    Accept,
    /// It waits for its turn.
    Enqueue,
    /// It gets its turn.
    Run,
    /// Its operation took effect.
    Finish,
    /// It is to be aborted: a user's request, an error, or a restart that interrupted it.
    Abort,
    /// No process of it is left; the undo begins.
    Recover,
    /// Everything is undone.
    Undone,
    /// The undo failed, or it is unknown what to undo.
    GiveUp,
}

impl TaskEvent {
    /// Every event.
    pub const ALL: [TaskEvent; 8] = [
        Self::Accept,
        Self::Enqueue,
        Self::Run,
        Self::Finish,
        Self::Abort,
        Self::Recover,
        Self::Undone,
        Self::GiveUp,
    ];
}

/// An event that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task in {state:?} does not take {event:?}")]
pub struct IllegalMove {
    /// The state it is in.
    pub state: TaskState,
    /// The event that came.
    pub event: TaskEvent,
}

/// The status that users of oVirt know: only this says that a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskStatus {
    /// Not accepted yet.
    Init,
    /// Accepted and not ended.
    Running,
    /// Ended: [`TaskResult`] says how.
    Finished,
    /// Being stopped.
    Aborting,
    /// Being undone.
    Cleaning,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskResult {
    /// The operation took effect.
    Success,
    /// It failed or was aborted, and what it began was undone.
    CleanSuccess,
    /// It failed, and so did its undo: an operator must check.
    CleanFailure,
}

impl TaskState {
    /// Every state, in the normal order.
    pub const ALL: [TaskState; 9] = [
        Self::Init,
        Self::Preparing,
        Self::Queued,
        Self::Running,
        Self::Finished,
        Self::Aborting,
        Self::Recovering,
        Self::Recovered,
        Self::Failed,
    ];

    /// The only table of legal transitions.
    ///
    /// # Errors
    /// [`IllegalMove`] for a pair that is not in the table; nothing leaves a terminal state.
    pub const fn next(self, event: TaskEvent) -> Result<TaskState, IllegalMove> {
        use TaskEvent as E;
        use TaskState as S;
        Ok(match (self, event) {
            (S::Init, E::Accept) => S::Preparing,
            (S::Preparing, E::Enqueue) => S::Queued,
            (S::Queued, E::Run) => S::Running,
            (S::Running, E::Finish) => S::Finished,
            (S::Init | S::Preparing | S::Queued | S::Running, E::Abort) => S::Aborting,
            (S::Aborting, E::Recover) => S::Recovering,
            (S::Recovering, E::Undone) => S::Recovered,
            // A restart may find that the operation had passed its point of no return: then it is completed.
            (S::Recovering, E::Finish) => S::Finished,
            (S::Aborting | S::Recovering, E::GiveUp) => S::Failed,
            (state, event) => return Err(IllegalMove { state, event }),
        })
    }

    /// Whether the task has ended. A terminal state is final.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Recovered | Self::Failed)
    }

    /// The derived status.
    pub const fn status(self) -> TaskStatus {
        match self {
            Self::Init => TaskStatus::Init,
            Self::Preparing | Self::Queued | Self::Running => TaskStatus::Running,
            Self::Finished | Self::Recovered | Self::Failed => TaskStatus::Finished,
            Self::Aborting => TaskStatus::Aborting,
            Self::Recovering => TaskStatus::Cleaning,
        }
    }

    /// The derived result; none until the task has ended.
    pub const fn result(self) -> Option<TaskResult> {
        match self {
            Self::Finished => Some(TaskResult::Success),
            Self::Recovered => Some(TaskResult::CleanSuccess),
            Self::Failed => Some(TaskResult::CleanFailure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_state_is_final() {
        for state in TaskState::ALL.into_iter().filter(|s| s.is_terminal()) {
            for event in TaskEvent::ALL {
                assert!(state.next(event).is_err(), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_result_exists_exactly_when_the_status_is_finished() {
        for state in TaskState::ALL {
            assert_eq!(
                state.result().is_some(),
                state.status() == TaskStatus::Finished,
                "{state:?}"
            );
            assert_eq!(
                state.is_terminal(),
                state.status() == TaskStatus::Finished,
                "{state:?}"
            );
        }
    }

    #[test]
    fn only_running_or_recovering_can_finish() {
        for state in TaskState::ALL {
            let finishes = state.next(TaskEvent::Finish).is_ok();
            assert_eq!(
                finishes,
                matches!(state, TaskState::Running | TaskState::Recovering),
                "{state:?}"
            );
        }
    }

    #[test]
    fn every_state_can_still_reach_an_end() {
        for start in TaskState::ALL {
            let mut reached = vec![start];
            let mut at = 0;
            while at < reached.len() {
                let from = reached[at];
                for next in TaskEvent::ALL.into_iter().filter_map(|e| from.next(e).ok()) {
                    if !reached.contains(&next) {
                        reached.push(next);
                    }
                }
                at += 1;
            }
            assert!(reached.iter().any(|s| s.is_terminal()), "{start:?}");
        }
    }
}

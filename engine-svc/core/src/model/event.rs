//! The people's log.

use common::id::CommandId;
use common::{Timestamp, Words};

use super::{CommandKind, CommandState, EntityKey};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Not as wished, and no harm done.
    Warning,
    /// Something failed.
    Error,
    /// Somebody must act.
    Alert,
}

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $text:literal, $severity:ident;)*) => {
        /// What can happen: stable codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventCode {
            $($(#[$doc])+ $name,)*
        }

        impl EventCode {
            /// Every code.
            pub const ALL: &'static [EventCode] = &[$(Self::$name,)*];

            /// The code as it travels: `UPPER_SNAKE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How much it matters.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

macro_rules! event_codes {
    (
        roots { $($root:ident($severity:ident $done:ident $done_text:literal, $failed:ident $failed_text:literal,
            $cancelled:ident $cancelled_text:literal);)* }
        parts { $($part:ident;)* }
    ) => {
        codes! {
            $(
                #[doc = concat!("A [`CommandKind::", stringify!($root), "`] has succeeded.")]
                $done = $done_text, $severity;
                #[doc = concat!("A [`CommandKind::", stringify!($root), "`] has failed.")]
                $failed = $failed_text, Error;
                #[doc = concat!("A [`CommandKind::", stringify!($root), "`] was stopped.")]
                $cancelled = $cancelled_text, Info;
            )*
            /// A command rests until somebody decides.
            CommandNeedsAttention = "COMMAND_NEEDS_ATTENTION", Alert;
            /// A command that rested goes on by itself.
            CommandResumed = "COMMAND_RESUMED", Info;
            /// Somebody had a resting command tried again.
            CommandRetried = "COMMAND_RETRIED", Info;
            /// Somebody gave a resting command up.
            CommandAbandoned = "COMMAND_ABANDONED", Alert;
            /// Somebody asked that a command be stopped.
            CommandCancelRequested = "COMMAND_CANCEL_REQUESTED", Info;
            /// A host was connected.
            HostConnected = "HOST_CONNECTED", Info;
            /// A host does not answer.
            HostAway = "HOST_AWAY", Warning;
            /// A host answers as another, or is another engine's.
            HostRefused = "HOST_REFUSED", Alert;
            /// A host lost its memory.
            HostStoreChanged = "HOST_STORE_CHANGED", Alert;
            /// A host was restarted under a task and undid it: it is sent again, under a new id.
            TaskSentAgain = "TASK_SENT_AGAIN", Warning;
            /// What a task did was decided by what storage shows.
            TaskSettledByEvidence = "TASK_SETTLED_BY_EVIDENCE", Warning;
            /// A task that no command of ours started is at work on our host.
            ForeignTaskSeen = "FOREIGN_TASK_SEEN", Warning;
            /// A host's storage holds what is not recorded, or not what is: the records are older.
            UnknownStorageSeen = "UNKNOWN_STORAGE_SEEN", Alert;
            /// A host belongs to another life of this engine: nothing is done there.
            EngineFenced = "ENGINE_FENCED", Alert;
        }

        impl EventCode {
            /// What people are told when a root has ended; none for kinds that are no roots, for it is their root that
            /// people are told of, and for what is no end.
            pub const fn of_end(kind: CommandKind, state: CommandState) -> Option<Self> {
                let (done, failed, cancelled) = match kind {
                    $(CommandKind::$root => (Self::$done, Self::$failed, Self::$cancelled),)*
                    $(CommandKind::$part)|* => return None,
                };
                match state {
                    CommandState::Succeeded => Some(done),
                    CommandState::Failed => Some(failed),
                    CommandState::Cancelled => Some(cancelled),
                    CommandState::Pending
                    | CommandState::Active
                    | CommandState::Compensating
                    | CommandState::NeedsAttention => None,
                }
            }
        }
    };
}

crate::commands!(event_codes);

/// Something that happened. A success is told only after the work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises with each event.
    pub id: u64,
    /// The time at which it happened.
    pub time: Timestamp,
    /// How much it matters.
    pub severity: Severity,
    /// What happened, for programs.
    pub code: EventCode,
    /// A sentence for people.
    pub message: Words,
    /// What it is about.
    pub entities: Vec<EntityKey>,
    /// The command that it is about.
    pub command: Option<CommandId>,
    /// The root of that command's tree.
    pub root: Option<CommandId>,
    /// Whose deed it was; empty where nobody's.
    pub user: String,
    /// Of the command or task.
    pub correlation_id: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ENDS: [CommandState; 3] = [
        CommandState::Succeeded,
        CommandState::Failed,
        CommandState::Cancelled,
    ];

    #[test]
    fn people_are_told_of_each_end_of_each_root_by_a_code_of_its_own_and_of_no_part() {
        let mut told = BTreeSet::new();
        for kind in CommandKind::ALL {
            for state in CommandState::ALL {
                let code = EventCode::of_end(*kind, state);
                assert_eq!(
                    code.is_some(),
                    kind.is_root() && ENDS.contains(&state),
                    "{kind:?} {state:?}"
                );
                assert!(
                    code.is_none_or(|code| told.insert(code)),
                    "{code:?} tells of two ends"
                );
            }
        }
        let texts: BTreeSet<&str> = EventCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), EventCode::ALL.len());
    }
}

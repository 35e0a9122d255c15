//! Events: the log for people.

use common::id::CommandId;
use common::{Timestamp, Words};

use super::{CommandKind, CommandState, EntityKey};

/// The severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Information.
    Info,
    /// Not as requested, without damage.
    Warning,
    /// Something failed.
    Error,
    /// An operator must act.
    Alert,
}

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $text:literal, $severity:ident;)*) => {
        /// The stable codes of events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventCode {
            $($(#[$doc])+ $name,)*
        }

        impl EventCode {
            /// Every code.
            pub const ALL: &'static [EventCode] = &[$(Self::$name,)*];

            /// The code on the wire: `UPPER_SNAKE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its severity.
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
            /// A command needs attention.
            CommandNeedsAttention = "COMMAND_NEEDS_ATTENTION", Alert;
            /// A command that needed attention continues by itself.
            CommandResumed = "COMMAND_RESUMED", Info;
            /// A command that needed attention was retried.
            CommandRetried = "COMMAND_RETRIED", Info;
            /// A command was abandoned.
            CommandAbandoned = "COMMAND_ABANDONED", Alert;
            /// The cancellation of a command was requested.
            CommandCancelRequested = "COMMAND_CANCEL_REQUESTED", Info;
            /// A host was connected.
            HostConnected = "HOST_CONNECTED", Info;
            /// A host does not answer.
            HostAway = "HOST_AWAY", Warning;
            /// The host that answers has another id, or belongs to another engine.
            HostRefused = "HOST_REFUSED", Alert;
            /// A host lost its records, or has older ones.
            HostStoreChanged = "HOST_STORE_CHANGED", Alert;
            /// A host restarted during a task and undid it: the operation is sent again, with a new task id.
            TaskSentAgain = "TASK_SENT_AGAIN", Warning;
            /// A task was settled by what storage shows.
            TaskSettledByEvidence = "TASK_SETTLED_BY_EVIDENCE", Warning;
            /// A task that this engine did not start runs on one of its hosts.
            ForeignTaskSeen = "FOREIGN_TASK_SEEN", Warning;
            /// A host's storage differs from the engine's records.
            UnknownStorageSeen = "UNKNOWN_STORAGE_SEEN", Alert;
            /// A host belongs to another life of this engine: nothing is sent to it.
            EngineFenced = "ENGINE_FENCED", Alert;
        }

        impl EventCode {
            /// The event code for the end of a root; none for parts, whose root is reported instead, and for states
            /// that are not ends.
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

/// An event. A success is reported only after the work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Increases with each event.
    pub id: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Its severity.
    pub severity: Severity,
    /// The code, for programs.
    pub code: EventCode,
    /// The message, for people.
    pub message: Words,
    /// The entities that it is about.
    pub entities: Vec<EntityKey>,
    /// The command that it is about.
    pub command: Option<CommandId>,
    /// The root of that command's tree.
    pub root: Option<CommandId>,
    /// The user who caused it; may be empty.
    pub user: String,
    /// The correlation id of the command or task.
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

//! What a command line can end with, and what it then says.

use std::fmt::Write as _;
use std::io;

use prost::Message as _;
use proto::engine::v1::{Command, CommandState};
use proto::task::v1::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

/// The exit codes, as `--help` and the manual print them.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done: the job has SUCCEEDED, or the question is answered
  1  the job has FAILED
  2  bad usage: the command line is wrong, or the engine refuses a value of the request
  3  the job was CANCELLED
  4  the job NEEDS ATTENTION: retry or abandon it
  5  the engine cannot be reached
  6  refused: the engine does not do it, and says why
  7  something else went wrong here, such as a full disk
  130  interrupted; a job that was started goes on";

/// How a command line ends if it does not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The job ended in another state than SUCCEEDED.
    #[error("{words}")]
    Job { state: CommandState, words: String },
    /// A word of the command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers.
    #[error(
        "the engine at {server} cannot be reached: {cause}\nTo look into it: taskctl --server {server} doctor"
    )]
    Unreachable { server: String, cause: String },
    /// The engine says no.
    #[error("{}", refusal(.0))]
    Refused(Box<tonic::Status>),
    /// There is none, or more than one.
    #[error("{0}")]
    NotFound(String),
    /// The user pressed Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// Whoever read the output has gone.
    #[error("the output is closed")]
    Closed,
    /// What the system refuses.
    #[error("{0}")]
    Local(String),
}

impl Failure {
    /// See [`EXIT_CODES`].
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Job { state, .. } => match state {
                CommandState::Cancelled => 3,
                CommandState::NeedsAttention => 4,
                CommandState::Unspecified
                | CommandState::Pending
                | CommandState::Active
                | CommandState::Compensating
                | CommandState::Succeeded
                | CommandState::Failed => 1,
            },
            Self::Refused(status) if status.code() == Code::InvalidArgument => 2,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 5,
            Self::Refused(_) | Self::NotFound(_) => 6,
            Self::Local(_) => 7,
            Self::Interrupted(_) => 130,
            // As the shell has it for SIGPIPE.
            Self::Closed => 141,
        }
    }

    /// What a command ended with that did not succeed; none if it has succeeded or goes on.
    pub(crate) fn of_command(command: &Command) -> Option<Self> {
        Self::of_job(command.state(), &command.command_id, command.fault.as_ref())
    }

    /// The same of a job.
    pub(crate) fn of_job(state: CommandState, id: &str, fault: Option<&Fault>) -> Option<Self> {
        let because = fault.map_or(String::new(), |fault| format!(": {}", in_words(fault)));
        let words = match state {
            CommandState::Failed => format!("job {id} has failed{because}"),
            CommandState::Cancelled => format!("job {id} was cancelled"),
            CommandState::NeedsAttention => format!(
                "job {id} needs attention{because}\nTo try again: taskctl job retry {id}\n\
                 To give the job up: taskctl job abandon {id} --reason TEXT"
            ),
            CommandState::Unspecified
            | CommandState::Pending
            | CommandState::Active
            | CommandState::Compensating
            | CommandState::Succeeded => return None,
        };
        Some(Self::Job { state, words })
    }

    /// What a call ended with.
    pub(crate) fn of_call(server: &str, status: tonic::Status) -> Self {
        match is_transport(&status) {
            true => Self::Unreachable {
                server: server.to_owned(),
                cause: cause(&status),
            },
            false => Self::Refused(Box::new(status)),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Local(format!("the output cannot be written: {error}")),
        }
    }
}

/// Whether no service made this status: the connection did not come about, or broke.
pub(crate) fn is_transport(status: &tonic::Status) -> bool {
    status.get_error_details().error_info().is_none()
        && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

/// Whether the same call may well be answered in a moment: the engine is being started or stopped.
pub(crate) fn is_passing(status: &tonic::Status) -> bool {
    let is_starting = |fault: Fault| {
        matches!(
            fault.code.as_str(),
            "LOADING" | "SHUTTING_DOWN" | "ENGINE_STILL_CONNECTED"
        )
    };
    is_transport(status) || fault(status).is_some_and(is_starting)
}

/// What kept a call from getting through.
fn cause(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(error) => innermost(error),
        None => status.message().to_owned(),
    }
}

/// The innermost cause is the one that helps: refused, timed out, no such host, no such certificate.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

/// A fault in one line.
pub(crate) fn in_words(fault: &Fault) -> String {
    match fault.message.is_empty() {
        true => fault.code.clone(),
        false => format!("{} ({})", fault.message, fault.code),
    }
}

/// The fault among a refusal's details.
pub(crate) fn fault(status: &tonic::Status) -> Option<Fault> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let any = details
        .into_iter()
        .find(|any| any.type_url.ends_with("/vdsm_engine.task.v1.Fault"))?;
    Fault::decode(any.value.as_slice()).ok()
}

fn refusal(status: &tonic::Status) -> String {
    let mut words = match fault(status) {
        Some(fault) => in_words(&fault),
        None => format!("{} ({})", status.message(), status.code()),
    };
    let violations = status.get_details_bad_request().into_iter();
    for violation in violations.flat_map(|bad| bad.field_violations) {
        let _ = write!(words, "\n  {}: {}", violation.field, violation.description);
    }
    if let Some(next) = fault(status).and_then(|fault| next_step(&fault.code)) {
        let _ = write!(words, "\n{next}");
    }
    words
}

/// What to type after a refusal, if there is something.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "ENTITY_BUSY" => {
            "To see who has it: taskctl ps. To wait for it: the same again with --lock-wait 10m."
        }
        "DISK_ATTACHED" => "To detach the disk: taskctl disk detach DISK VM.",
        "ENTITY_IN_USE" => "To see what the host serves: taskctl domain list --host HOST.",
        "ENGINE_FENCED" => "To see which host says so: taskctl host list -o wide.",
        "TOO_MANY_COMMANDS" => "To see what is under way: taskctl ps.",
        "COMMAND_NOT_ROOT" => "The job that it is part of: taskctl job show ID.",
        _ => return None,
    })
}

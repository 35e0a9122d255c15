//! Waiting for a command: on the log of what is committed, never by asking again.

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::CommandId;
use common::revision::Revision;
use proto::engine::v1::{Command, CommandState};
use runtime::log::ReadError;
use runtime::status;
use runtime::watch;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::api::Api;

/// How long it is waited where the request does not say.
const DEFAULT: Duration = Duration::from_secs(60);

/// The longest wait; whoever wants longer asks again.
const MAX: Duration = Duration::from_secs(60 * 60);

/// Revisions looked at at a time.
const PIECE: usize = 256;

/// Reads the request's `timeout`.
pub(super) fn timeout(asked: Option<&prost_types::Duration>) -> Result<Duration, Fault> {
    let Some(asked) = asked else {
        return Ok(DEFAULT);
    };
    match Duration::try_from(*asked) {
        Ok(timeout) if timeout <= MAX => Ok(timeout),
        _ => Err(Fault::invalid("timeout", "must be 0 to 3600 s")),
    }
}

/// Waits until the command has ended or needs attention; says whether it came to that in time.
pub(super) async fn wait(api: &Api, id: CommandId, patience: Duration) -> Result<(Command, bool), Status> {
    let deadline = Instant::now() + patience;
    // Read after this point, so that no change falls between the two.
    let mut after = api.log.current();
    let mut command = api.command(id).await?;
    while !rests(&command) {
        if timeout_at(deadline, api.log.changed(after)).await.is_err() {
            return Ok((command, false));
        }
        if api.log.closed().is_some() {
            let words = "the service is stopping; ask again in a moment";
            return Err(status::from_fault(&Fault::new(FaultCode::ShuttingDown, words)));
        }
        match latest(api, id, after) {
            Ok((changed, last)) => {
                after = last;
                if let Some(changed) = changed {
                    command = api.show.command(changed);
                }
            }
            // So far behind that the history is gone: the record tells as well.
            Err(ReadError::OutOfRange(_)) => {
                after = api.log.current();
                command = api.command(id).await?;
            }
            Err(ReadError::Store(error)) => return Err(status::from_store(error)),
        }
    }
    Ok((command, true))
}

/// The first state after `after` that ends the wait, else the last one; and how far was looked.
fn latest(api: &Api, id: CommandId, after: Revision) -> Result<(Option<Command>, Revision), ReadError> {
    let id = id.to_string();
    let mut found: Option<Command> = None;
    let mut last = after;
    for entry in api.log.read_after(after, PIECE)? {
        last = entry.revision;
        for shown in &entry.history.commands {
            if watch::read::<Which>(shown)?.command_id != id {
                continue;
            }
            let command: Command = watch::read(shown)?;
            let ends = rests(&command);
            found = Some(command);
            if ends {
                return Ok((found, last));
            }
        }
    }
    Ok((found, last))
}

/// Of a `Command`, which it is: no more need be read of those of others.
#[derive(Clone, PartialEq, prost::Message)]
struct Which {
    #[prost(string, tag = "1")]
    command_id: String,
}

fn rests(command: &Command) -> bool {
    command.end_time.is_some() || command.state == i32::from(CommandState::NeedsAttention)
}

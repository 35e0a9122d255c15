//! Waiting for a command: the wait follows the log of commits, and never polls. One task reads the log for all
//! waiters, and wakes those whose command has changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::fault::{Fault, FaultCode};
use common::id::CommandId;
use common::revision::Revision;
use proto::convert;
use proto::engine::v1::{Command, CommandState};
use runtime::log::ReadError;
use runtime::status;
use runtime::watch as items;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::api::{self, Api};
use crate::store::Log;
use crate::store::command::COMMANDS;

/// How long a request waits if it does not say.
const DEFAULT: Duration = Duration::from_secs(60);

/// The longest wait; a client that wants to wait longer asks again.
const MAX: Duration = Duration::from_secs(60 * 60);

/// The number of revisions that are read at a time.
const PIECE: usize = 256;

/// Reads the request's `timeout`.
pub(super) fn timeout(asked: Option<&prost_types::Duration>) -> Result<Duration, Fault> {
    let Some(asked) = asked else {
        return Ok(DEFAULT);
    };
    match convert::from_duration(asked) {
        Some(timeout) if timeout <= MAX => Ok(timeout),
        _ => Err(Fault::invalid("timeout", "must be 0 to 3600 s")),
    }
}

/// What the waiters for a command are told.
#[derive(Debug, Clone)]
enum WaitNotice {
    Nothing,
    /// The command rests, as of this revision.
    Rests(Revision, Bytes),
    /// Something may have been missed: the waiter must read the record.
    LookAgain,
}

/// The waiters for each command. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<HashMap<CommandId, watch::Sender<WaitNotice>>>>);

/// One waiter; dropping it ends its wait.
struct Waiter {
    waits: Waits,
    id: CommandId,
    told: watch::Receiver<WaitNotice>,
}

impl Waits {
    /// Tells the waiters what the log shows, until the log is closed.
    pub(crate) async fn follow(self, log: Log) {
        let mut after = log.current();
        loop {
            log.changed(after).await;
            if log.closed().is_some() {
                // The waiters notice that their channels are closed.
                self.lock().clear();
                return;
            }
            let is_idle = self.lock().is_empty();
            after = match is_idle {
                // A later waiter reads the record, and waits for later changes.
                true => log.current(),
                false => self.look(&log, after),
            };
        }
    }

    /// Reads a piece of the log; returns the last revision in it.
    fn look(&self, log: &Log, after: Revision) -> Revision {
        let mut last = after;
        let entries = match log.read_after(after, PIECE) {
            Ok(entries) => entries,
            Err(error) => {
                if let ReadError::Store(error) = error {
                    tracing::error!(%error, "WaitCommand cannot follow the log");
                }
                last = log.current();
                for sender in self.lock().values() {
                    sender.send_replace(WaitNotice::LookAgain);
                }
                return last;
            }
        };
        for entry in entries {
            last = entry.revision;
            for shown in &entry.history.commands {
                // Whoever reads an unreadable record itself gets the error.
                let Ok(Which { command_id }) = items::read(shown) else {
                    continue;
                };
                let waits = self.lock();
                let Some(sender) = command_id.parse().ok().and_then(|id: CommandId| waits.get(&id)) else {
                    continue;
                };
                if items::read(shown).is_ok_and(|command: Command| rests(&command)) {
                    sender.send_replace(WaitNotice::Rests(entry.revision, shown.clone()));
                }
            }
        }
        last
    }

    fn enter(&self, id: CommandId) -> Waiter {
        let mut waits = self.lock();
        let sender = waits
            .entry(id)
            .or_insert_with(|| watch::Sender::new(WaitNotice::Nothing));
        Waiter {
            told: sender.subscribe(),
            waits: self.clone(),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CommandId, watch::Sender<WaitNotice>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waits = self.waits.lock();
        // This waiter still counts.
        if waits
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            waits.remove(&self.id);
        }
    }
}

/// Waits until the command has ended or needs attention; returns whether it came to that in time.
pub(super) async fn wait(api: &Api, id: CommandId, patience: Duration) -> Result<(Command, bool), Status> {
    let deadline = Instant::now() + patience;
    // Before the record is read, so that no change falls between the two.
    let mut waiter = api.waits.enter(id);
    let since = api.log.current();
    // No part of the record is kept during the wait: many may wait for a large one.
    let mut rested = resting(api, id).await?;
    loop {
        if let Some(command) = rested {
            return Ok((command, true));
        }
        if api.log.closed().is_some() {
            return Err(stopping());
        }
        match timeout_at(deadline, waiter.told.changed()).await {
            Err(_) => return Ok((api.command(id).await?, false)),
            Ok(Err(_)) => return Err(stopping()),
            Ok(Ok(())) => {}
        }
        let told = waiter.told.borrow_and_update().clone();
        rested = match told {
            WaitNotice::Rests(revision, shown) if revision > since => {
                let shown = items::read(&shown).map_err(status::from_store)?;
                Some(api.show.command(shown))
            }
            // From before the record was read.
            WaitNotice::Rests(..) | WaitNotice::Nothing => None,
            WaitNotice::LookAgain => resting(api, id).await?,
        };
    }
}

/// The command, if it rests or has ended.
async fn resting(api: &Api, id: CommandId) -> Result<Option<Command>, Status> {
    let found = api
        .read(move |reader| {
            let found = COMMANDS.get(reader, id.as_bytes())?;
            let command = found.and_then(|record| record.command);
            Ok(command.map(|command| rests(&command).then_some(command)))
        })
        .await?;
    let rested = found.ok_or_else(|| api::no_command(id))?;
    Ok(rested.map(|command| api.show.command(command)))
}

fn stopping() -> Status {
    let words = "the service is stopping; try again in a moment";
    status::from_fault(&Fault::new(FaultCode::ShuttingDown, words))
}

/// The first field of a `Command`: more need not be read of commands that nobody waits for.
#[derive(Clone, PartialEq, prost::Message)]
struct Which {
    #[prost(string, tag = "1")]
    command_id: String,
}

fn rests(command: &Command) -> bool {
    command.end_time.is_some() || command.state == i32::from(CommandState::NeedsAttention)
}

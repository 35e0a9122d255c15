//! Has commands forgotten that ended long ago.

use std::time::Duration;

use common::id::CommandId;
use common::time::Timestamp;
use engine_core::Input;
use runtime::clock;
use runtime::coordinator::Handle;
use runtime::store::{Reader, StoreError};
use tracing::warn;

use crate::machine::Engine;
use crate::store::command::COMMANDS;
use crate::store::{Log, read};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(60);

/// Ended commands looked at at a time. Their trees make some thousand writes: a fraction of a second of one core.
const PIECE: usize = 100;

/// Runs until it is aborted. `age`: how long a command is kept after its end.
pub(crate) async fn run(engine: Handle<Engine>, log: Log, age: Duration) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let before = clock::now().plus_seconds(-age);
        if let Err(error) = forget(&engine, &log, before).await {
            warn!(%error, "old commands cannot be forgotten now");
        }
    }
}

/// Forgets what ended before `before`, a bounded piece at a time, until nothing goes any more.
async fn forget(engine: &Handle<Engine>, log: &Log, before: Timestamp) -> Result<(), StoreError> {
    loop {
        let command_ids = read::on(log, move |reader| old_roots(reader, before)).await?;
        let full = command_ids.len() == PIECE;
        if command_ids.is_empty() || engine.call(Input::Forget { command_ids }).await.is_err() || !full {
            return Ok(());
        }
    }
}

/// The roots among the commands that ended first. A part ends before its root, and goes with it.
fn old_roots(reader: &dyn Reader, before: Timestamp) -> Result<Vec<CommandId>, StoreError> {
    let mut roots = Vec::new();
    let mut after = None;
    while roots.len() < PIECE {
        let scan = COMMANDS.ended_before(reader, before, after.as_deref(), PIECE)?;
        let ended = scan.found.into_iter().filter_map(|(_, record)| record.command);
        let of_age = ended.filter(|command| command.parent_command_id.is_empty());
        roots.extend(of_age.filter_map(|command| command.command_id.parse::<CommandId>().ok()));
        after = scan.next;
        if after.is_none() {
            break;
        }
    }
    roots.truncate(PIECE);
    Ok(roots)
}

//! Forgets commands that ended long ago.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use common::id::CommandId;
use common::time::Timestamp;
use engine_core::Input;
use runtime::ages::Ages;
use runtime::coordinator::Handle;
use store::{Reader, StoreError};
use tracing::warn;

use crate::machine::Engine;
use crate::store::command::COMMANDS;
use crate::store::{Log, read};

/// How often the engine looks for such commands.
const INTERVAL: Duration = Duration::from_secs(60);

/// The number of ended commands in one piece. Their trees make some thousand writes: a fraction of a second of one
/// core.
const PIECE: usize = 100;

/// Runs until it is aborted. `age`: how long a command is kept after its end.
pub(crate) async fn run(engine: Handle<Engine>, log: Log, ages: Ages, age: Duration) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = forget(&engine, &log, &ages.present().young(age)).await {
            warn!(%error, "old commands cannot be removed now; trying again");
        }
    }
}

/// Forgets commands whose end lies outside the range of young ones, a bounded piece at a time. A command that cannot
/// go yet, because a host has not heard that it may forget the command's tasks, is skipped until the next look.
pub(crate) async fn forget(
    engine: &Handle<Engine>,
    log: &Log,
    young: &RangeInclusive<Timestamp>,
) -> Result<(), StoreError> {
    let after = Timestamp(young.end().0.saturating_add(1));
    for times in [Timestamp(i64::MIN)..*young.start(), after..Timestamp(i64::MAX)] {
        forget_ended(engine, log, times).await?;
    }
    Ok(())
}

async fn forget_ended(engine: &Handle<Engine>, log: &Log, times: Range<Timestamp>) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let times = times.clone();
        let piece = read::on(log, move |reader| old_roots(reader, &times, after.as_deref())).await?;
        let command_ids = piece.command_ids;
        if !command_ids.is_empty() && engine.call(Input::Forget { command_ids }).await.is_err() {
            return Ok(());
        }
        after = piece.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

struct Piece {
    command_ids: Vec<CommandId>,
    /// The key after which the next piece begins; none at the end.
    next: Option<Vec<u8>>,
}

/// The roots of a piece of the commands that ended first. A part ends before its root, and is forgotten with it.
fn old_roots(
    reader: &dyn Reader,
    times: &Range<Timestamp>,
    after: Option<&[u8]>,
) -> Result<Piece, StoreError> {
    let scan = COMMANDS.ended_within(reader, times, after, PIECE)?;
    let ended = scan.found.into_iter().filter_map(|(_, record)| record.command);
    let roots = ended.filter(|command| command.parent_command_id.is_empty());
    Ok(Piece {
        command_ids: roots
            .filter_map(|command| command.command_id.parse().ok())
            .collect(),
        next: scan.next,
    })
}

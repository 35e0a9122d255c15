//! Expiry: old tasks that no engine started are cleared, and old cleared tasks are forgotten.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use ::store::{Order, Reader, Store, StoreError, Table};
use common::age::Present;
use common::time::Timestamp;
use runtime::ages::Ages;
use runtime::coordinator::{Handle, Refusal};
use runtime::threads;
use vdsm_core::{Input, Known, Task};

use crate::settings::{Settings, days};
use crate::store::{CLEARED, HostMachine, TASK, decode_task, ordinal_of};

/// How often the host looks for old tasks.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The maximum number of records that change in one revision. If more are old, the next look follows at once.
const PIECE: usize = 32;

/// The number of oldest records that a look examines. Tasks end, and are cleared, about in the order of their
/// acceptance, so if none of these is old enough, hardly any task is.
const LOOKED_AT: usize = 1_000;

/// The ages at which tasks expire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    unowned: Duration,
    cleared: Duration,
}

impl Limits {
    pub(crate) const fn of(settings: &Settings) -> Self {
        Self {
            unowned: days(settings.unowned_days),
            cleared: days(settings.cleared_days),
        }
    }

    /// The longer of the two ages.
    pub(crate) fn greatest(self) -> Duration {
        self.unowned.max(self.cleared)
    }
}

/// Looks now and then, until the service stops.
pub(crate) async fn run(coordinator: Handle<HostMachine>, store: Arc<dyn Store>, limits: Limits, ages: Ages) {
    loop {
        let (reading, present) = (Arc::clone(&store), ages.present());
        let looked = threads::blocking(move || look(&*reading.reader()?, limits, present)).await;
        let more = match looked {
            Ok(Ok(Some(input))) => match coordinator.call(input).await {
                Ok(_) => true,
                Err(Refusal::StoreUnavailable | Refusal::StoreLost(_)) => false,
                Err(Refusal::Stopping) => return,
            },
            Ok(Ok(None)) => false,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look for expired tasks now; trying again");
                false
            }
            Err(_) => return,
        };
        if !more {
            tokio::select! {
                biased;
                () = tokio::time::sleep(INTERVAL) => {}
                // The task must end at once: whoever stopped the service may want to open the store again.
                () = coordinator.ended() => return,
            }
        }
    }
}

/// The input that expires old tasks; none if no task is old.
fn look(reader: &dyn Reader, limits: Limits, present: Present) -> Result<Option<Input>, StoreError> {
    let older = |since: Option<Timestamp>, age| since.is_some_and(|since| present.is_older(since, age));
    let unowned = |task: &Task| task.engine_id.is_none() && older(task.end_time, limits.unowned);
    let clear = oldest(reader, TASK, unowned)?;
    // A task is kept for its time after the clear: its engine may have been away, and may still send the task once
    // more.
    let cleared = |task: &Task| older(task.clear_time.or(task.end_time), limits.cleared);
    let forget = oldest(reader, CLEARED, cleared)?;
    if clear.is_empty() && forget.is_empty() {
        return Ok(None);
    }
    let revision = reader.revision();
    let known = |task| Known {
        revision,
        task: Some(Arc::new(task)),
    };
    Ok(Some(Input::Age {
        clear: clear.into_iter().map(known).collect(),
        forget: forget.iter().map(|task| (task.ordinal, task.id)).collect(),
    }))
}

fn oldest(
    reader: &dyn Reader,
    table: Table,
    wanted: impl Fn(&Task) -> bool,
) -> Result<Vec<Task>, StoreError> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let records = reader.scan(table, all, Order::Ascending, LOOKED_AT)?;
    let mut found = Vec::new();
    for (key, record) in records {
        // A record that cannot be understood is left alone; the load has logged it.
        if let Ok(task) = decode_task(ordinal_of(&key)?, &record)
            && wanted(&task)
        {
            found.push(task);
        }
        if found.len() == PIECE {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

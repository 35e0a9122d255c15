//! The host's machine, as the coordinator drives it: its decisions become records and history here.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use ::store::{Identity, Order, Reader, StoreError, Table, Write};
use bytes::Bytes;
use common::time::Timestamp;
use proto::encode;
use proto::store::v1::HostHistory;
use runtime::machine::{Machine, Shown, Step};
use vdsm_core::{Change, Effect, Input, Limits, Loaded, Ordinal, Reply, State, Task};

use super::codec::{encode_owner, encode_task};
use super::{CLEARED, OWNER, OWNER_KEY, TASK, TASK_ID, decode_task, ordinal_key, ordinal_of, owner, shown};
use crate::alive::Alive;
use crate::metrics::{Census, Figures};
use crate::presence::Presence;

/// The number of records that are read at a time.
const PAGE: usize = 1_000;

/// What a load needs besides the records.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    /// The bounds of what the host accepts.
    pub(crate) limits: Limits,
    /// The identity of the data directory, and of this start of the service.
    pub(crate) identity: Identity,
    /// The live work of this process, which survives a failed store.
    pub(crate) alive: Arc<Alive>,
    /// Which engines are connected; each load tells it the host's owner.
    pub(crate) presence: Arc<Presence>,
    /// Where the figures are shown, if there are metrics.
    pub(crate) figures: Option<Figures>,
}

/// The host's machine.
#[derive(Debug)]
pub(crate) struct HostMachine {
    state: State,
    alive: Arc<Alive>,
    /// Counts the working state, if there are metrics.
    census: Option<Census>,
}

impl Machine for HostMachine {
    type Input = Input;
    type Reply = Reply;
    type Effect = Effect;
    type History = HostHistory;
    type Seed = Seed;

    fn load(reader: &dyn Reader, seed: &Seed) -> Result<Self, StoreError> {
        let loaded = Loaded {
            store_id: seed.identity.store_id,
            start: seed.identity.start,
            revision: reader.revision(),
            next_ordinal: next_ordinal(reader)?,
            owner: owner(reader)?,
            tasks: unfinished(reader)?,
            calls: seed.alive.calls(),
        };
        // A commit that seemed to fail, and is found after all, has no effects.
        seed.presence.belongs_to(loaded.owner.clone());
        tracing::info!(
            revision = loaded.revision.0,
            unfinished = loaded.tasks.len(),
            "loaded"
        );
        let state = State::load(seed.limits, loaded);
        let census = |figures: &Figures| Census::of(figures.clone(), &state);
        Ok(Self {
            census: seed.figures.as_ref().map(census),
            state,
            alive: Arc::clone(&seed.alive),
        })
    }

    fn recover(&self) -> Option<Input> {
        Some(Input::Recover {
            alive: self.alive.tasks(),
        })
    }

    fn step(&mut self, input: Input, now: Timestamp) -> Step<Self> {
        let transition = self.state.step(input, now);
        if let Some(census) = &mut self.census {
            census.take(&transition.revisions);
        }
        Step {
            revisions: transition
                .revisions
                .iter()
                .map(|changes| revision(changes))
                .collect(),
            effects: transition.effects,
            reply: transition.reply,
        }
    }

    fn shown(&mut self) -> Option<Shown> {
        self.census.as_mut().map(Census::shown)
    }

    fn label(input: &Input) -> String {
        input.label().to_owned()
    }
}

/// The history and the records of one revision. A task that changes several times in it is recorded once.
fn revision(changes: &[Change]) -> runtime::machine::Change<HostHistory> {
    // With the exact capacity: the log keeps these vectors, and a growing vector would begin with room for four.
    let shows = changes.iter().filter(|change| matches!(change, Change::Task(_)));
    let mut history = HostHistory {
        tasks: Vec::with_capacity(shows.count()),
    };
    let mut tasks: BTreeMap<Ordinal, (&Task, Bytes)> = BTreeMap::new();
    let mut writes = Vec::new();
    for change in changes {
        match change {
            Change::Task(task) => {
                let shown = encode::once(&shown(task));
                history.tasks.push(shown.clone());
                if task.sequence == 1 {
                    writes.push(put(
                        TASK_ID,
                        task.id.as_bytes(),
                        ordinal_key(task.ordinal).to_vec(),
                    ));
                }
                tasks.insert(task.ordinal, (task, shown));
            }
            Change::Noted(task) => {
                tasks.insert(task.ordinal, (task, encode::once(&shown(task))));
            }
            Change::Owner(owner) => writes.push(put(OWNER, OWNER_KEY, encode_owner(owner))),
            Change::Forgotten { ordinal, id } => {
                writes.push(delete(CLEARED, &ordinal_key(*ordinal)));
                writes.push(delete(TASK_ID, id.as_bytes()));
            }
        }
    }
    for (ordinal, (task, shown)) in tasks {
        let key = ordinal_key(ordinal);
        let record = encode_task(task, &shown);
        if task.removed {
            writes.push(delete(TASK, &key));
            writes.push(put(CLEARED, &key, record));
        } else {
            writes.push(put(TASK, &key, record));
        }
    }
    runtime::machine::Change { history, writes }
}

fn put(table: Table, key: &[u8], value: Vec<u8>) -> Write {
    Write {
        table,
        key: key.to_vec(),
        value: Some(value),
    }
}

fn delete(table: Table, key: &[u8]) -> Write {
    Write {
        table,
        key: key.to_vec(),
        value: None,
    }
}

/// The first ordinal above all recorded ones.
fn next_ordinal(reader: &dyn Reader) -> Result<Ordinal, StoreError> {
    let mut next = 0;
    for table in [TASK, CLEARED] {
        let range = (Bound::Unbounded, Bound::Unbounded);
        for (key, _) in reader.scan(table, range, Order::Descending, 1)? {
            next = next.max(ordinal_of(&key)?.0 + 1);
        }
    }
    Ok(Ordinal(next))
}

/// The tasks that are not over. A record that cannot be understood is logged and left alone: it keeps its id from
/// being used again, and affects no other task.
fn unfinished(reader: &dyn Reader) -> Result<Vec<Task>, StoreError> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = reader.scan(TASK, (from, Bound::Unbounded), Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(found);
        };
        after = Some(last.clone());
        for (key, record) in &page {
            match decode_task(ordinal_of(key)?, record) {
                Ok(task) if task.state.is_terminal() => {}
                Ok(task) => found.push(task),
                Err(error) => tracing::error!(%error, "a record cannot be read and is left alone"),
            }
        }
    }
}

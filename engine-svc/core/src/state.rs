//! The picture of all live commands, and what they work on.

use common::id::EngineId;

use crate::change::Change;

/// What is not in the records that [`State::load`] is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// This engine.
    pub engine_id: EngineId,
    /// The highest `seq` of any command or task that was ever recorded.
    pub last_seq: u64,
    /// The id of the last event that was ever recorded.
    pub last_event_id: u64,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct State {
    seed: Seed,
}

impl State {
    /// Before anything happened.
    pub fn new(seed: Seed) -> Self {
        Self { seed }
    }

    /// From records, in any order: hosts, domains, disks, VMs; the commands of every tree that is not over or
    /// has a task that is not cleared, with their tasks; foreign tasks that are not cleared; and the roots whose
    /// requests are to be remembered. More does no harm.
    pub fn load(seed: Seed, records: impl IntoIterator<Item = Change>) -> Self {
        let mut state = Self::new(seed);
        for change in &records.into_iter().collect::<Vec<_>>() {
            state.apply(change);
        }
        state
    }

    /// Takes a record into the picture: its only mutator, live and at load.
    pub fn apply(&mut self, _change: &Change) {
        let _ = self.seed;
    }
}

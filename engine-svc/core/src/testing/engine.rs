//! The engine under test: its state beside the records that a store would hold.

use std::collections::BTreeMap;

use common::Timestamp;

use super::ENGINE;
use crate::change::Change;
use crate::input::Input;
use crate::jobs::JobHead;
use crate::state::{Limits, Seed, State};
use crate::step::Transition;

pub(crate) struct Engine {
    pub(crate) state: State,
    /// The last record of each key.
    pub(crate) records: BTreeMap<String, Change>,
    pub(crate) heads: Vec<JobHead>,
    pub(crate) events: Vec<crate::model::Event>,
    last_seq: u64,
    last_event_id: u64,
    clock: i64,
    /// At which transition the process is killed, and how many of its changes are recorded by then.
    pub(crate) cut: Option<(i64, usize)>,
    /// How many changes the transition had in which it was killed.
    pub(crate) cut_of: usize,
}

impl Engine {
    pub(crate) fn new() -> Self {
        let mut engine = Self {
            state: State::new(seed(0, 0)),
            records: BTreeMap::new(),
            heads: Vec::new(),
            events: Vec::new(),
            last_seq: 0,
            last_event_id: 0,
            clock: 0,
            cut: None,
            cut_of: 0,
        };
        engine.step(Input::Recover);
        engine
    }

    /// One input, made durable.
    pub(crate) fn step(&mut self, input: Input) -> Transition {
        self.clock += 1;
        let transition = self.state.step(input, Timestamp(self.clock));
        let recorded = match self.cut {
            Some((at, changes)) if at == self.clock => {
                self.cut_of = transition.changes.len();
                changes
            }
            _ => transition.changes.len(),
        };
        for change in transition.changes.iter().take(recorded) {
            self.record(change);
        }
        self.heads.extend(transition.heads.iter().cloned());
        transition
    }

    fn record(&mut self, change: &Change) {
        match change {
            Change::Command(command) => self.last_seq = self.last_seq.max(command.seq),
            Change::Task(task) => self.last_seq = self.last_seq.max(task.seq),
            Change::Event(event) => {
                assert_eq!(event.id, self.last_event_id + 1, "event ids rise by one");
                self.last_event_id = event.id;
                self.events.push(event.clone());
                return;
            }
            _ => {}
        }
        match key_of(change) {
            (key, true) => self.records.insert(key, change.clone()),
            (key, false) => self.records.remove(&key),
        };
    }

    /// How many inputs there were.
    pub(crate) const fn inputs(&self) -> i64 {
        self.clock
    }

    /// Whether the process was killed in the last transition.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut.is_some_and(|(at, _)| at == self.clock)
    }

    /// What a new process would have.
    pub(crate) fn reloaded(&self) -> State {
        let seed = Seed {
            limits: self.state.seed.limits,
            ..seed(self.last_seq, self.last_event_id)
        };
        State::load(seed, self.records.values().cloned())
    }
}

fn seed(last_seq: u64, last_event_id: u64) -> Seed {
    Seed {
        engine_id: ENGINE,
        last_seq,
        last_event_id,
        limits: Limits::default(),
    }
}

/// The key of a record, and whether it is there from now on.
fn key_of(change: &Change) -> (String, bool) {
    match change {
        Change::Command(command) => (format!("command {}", command.id), true),
        Change::CommandRemoved(id) => (format!("command {id}"), false),
        Change::Task(task) => (format!("task {}", task.id), true),
        Change::Host(host) => (format!("host {}", host.id), true),
        Change::HostRemoved(id) => (format!("host {id}"), false),
        Change::Domain(domain) => (format!("domain {}", domain.id), true),
        Change::Disk(disk) => (format!("disk {}", disk.spec.disk_id), true),
        Change::DiskRemoved(id) => (format!("disk {id}"), false),
        Change::Vm(vm) => (format!("vm {}", vm.id), true),
        Change::VmRemoved(id) => (format!("vm {id}"), false),
        Change::Event(event) => (format!("event {}", event.id), true),
    }
}

//! Counts of the working state and of what has ended, kept up to date with each change, so that reading the metrics
//! never walks through the state.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use common::id::{CommandId, HostId, TaskId};
use common::operation::Operation;
use common::time::Timestamp;
use engine_core::model::{
    AsyncTask, AsyncTaskState, Command, CommandKind, CommandState, Ending, EventCode, Purpose,
};
use engine_core::{Change, State};
use runtime::machine::Shown;
use runtime::metrics::{Histogram, LONG};

const KINDS: usize = CommandKind::ALL.len();
const STATES: usize = CommandState::ALL.len();
const TASK_STATES: usize = AsyncTaskState::ALL.len();
/// One more than there are verbs: a newer host may have verbs that this build does not know.
const VERBS: usize = Operation::ALL_NAMES.len() + 1;
const EVENTS: usize = EventCode::ALL.len();

/// The endings of a task, as labels.
pub(super) const ENDINGS: [&str; 3] = ["done", "untouched", "unclear"];

/// The figures after a commit.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) commands: [[u32; STATES]; KINDS],
    pub(super) commands_ended: [[u64; STATES]; KINDS],
    pub(super) tasks: [[u32; TASK_STATES]; VERBS],
    pub(super) tasks_ended: [[u64; ENDINGS.len()]; VERBS],
    pub(super) foreign: usize,
    pub(super) events: [u64; EVENTS],
    pub(super) locks: usize,
    pub(super) holders: usize,
    pub(super) waiters: usize,
    /// The earliest times at which a command that needs attention came to need it, and at which a command that holds
    /// locks, or waits for them, was accepted.
    pub(super) attention_since: Option<Timestamp>,
    pub(super) holder_since: Option<Timestamp>,
    pub(super) waiter_since: Option<Timestamp>,
    pub(super) hosts: Arc<BTreeMap<HostId, String>>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            commands: [[0; STATES]; KINDS],
            commands_ended: [[0; STATES]; KINDS],
            tasks: [[0; TASK_STATES]; VERBS],
            tasks_ended: [[0; ENDINGS.len()]; VERBS],
            foreign: 0,
            events: [0; EVENTS],
            locks: 0,
            holders: 0,
            waiters: 0,
            attention_since: None,
            holder_since: None,
            waiter_since: None,
            hosts: Arc::default(),
        }
    }
}

/// The figures as last committed. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Figures(Arc<Board>);

#[derive(Debug)]
struct Board {
    counts: Mutex<Counts>,
    /// One for each kind of command.
    durations: Vec<Histogram>,
}

impl Default for Figures {
    fn default() -> Self {
        Self(Arc::new(Board {
            counts: Mutex::default(),
            durations: CommandKind::ALL.iter().map(|_| Histogram::new(LONG)).collect(),
        }))
    }
}

impl Figures {
    pub(super) fn counts(&self) -> Counts {
        self.0
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn durations(&self) -> impl Iterator<Item = (CommandKind, &Histogram)> {
        CommandKind::ALL.iter().copied().zip(&self.0.durations)
    }

    fn show(&self, counts: Counts, ended: &[(CommandKind, f64)]) {
        *self.0.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        for (kind, seconds) in ended {
            if let Some(durations) = self.0.durations.get(*kind as usize) {
                durations.observe(*seconds);
            }
        }
    }
}

/// A command that has not ended.
#[derive(Debug, Clone, Copy)]
struct Live {
    kind: CommandKind,
    state: CommandState,
    created: Timestamp,
    /// Since when the command has needed attention, if it does.
    rests_since: Option<Timestamp>,
    /// The number of locks of a root.
    locks: usize,
}

/// A task that is not cleared.
#[derive(Debug, Clone, Copy)]
struct Known {
    verb: usize,
    state: AsyncTaskState,
    /// The number of locks that the task holds, if it is a foreign one and not over.
    foreign_locks: Option<usize>,
}

/// Counts the working state of one engine and lives as long as the state; its figures are shown once they are
/// durable.
#[derive(Debug)]
pub(crate) struct Census {
    figures: Figures,
    counts: Counts,
    commands: HashMap<CommandId, Live>,
    tasks: HashMap<TaskId, Known>,
    resting: BTreeSet<(Timestamp, CommandId)>,
    holding: BTreeSet<(Timestamp, CommandId)>,
    waiting: BTreeSet<(Timestamp, CommandId)>,
    ended: Vec<(CommandKind, f64)>,
}

impl Census {
    /// Counts a loaded state. Counters go on from the values that were shown before.
    pub(crate) fn of(figures: Figures, state: &State) -> Self {
        let shown = figures.counts();
        let mut census = Self {
            figures,
            counts: Counts {
                commands_ended: shown.commands_ended,
                tasks_ended: shown.tasks_ended,
                events: shown.events,
                ..Counts::default()
            },
            commands: HashMap::new(),
            tasks: HashMap::new(),
            resting: BTreeSet::new(),
            holding: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ended: Vec::new(),
        };
        state.commands().for_each(|command| census.command(command));
        state.tasks().for_each(|task| census.task(task));
        let hosts = state.hosts().map(|host| (host.id, host.name.clone()));
        census.counts.hosts = Arc::new(hosts.collect());
        census
    }

    /// Counts the changes of a step.
    pub(crate) fn take(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Command(command) => self.command(command),
                Change::Task(task) => self.task(task),
                Change::Event(event) => self.counts.events[event.code as usize] += 1,
                Change::Host(host) => {
                    // Most changes of a host only record how far it was followed.
                    if self.counts.hosts.get(&host.id) != Some(&host.name) {
                        Arc::make_mut(&mut self.counts.hosts).insert(host.id, host.name.clone());
                    }
                }
                Change::HostRemoved(id) => {
                    Arc::make_mut(&mut self.counts.hosts).remove(id);
                }
                Change::CommandRemoved(_)
                | Change::Domain(_)
                | Change::Disk(_)
                | Change::DiskRemoved(_)
                | Change::Vm(_)
                | Change::VmRemoved(_) => {}
            }
        }
    }

    /// The figures to show once everything counted so far is durable.
    pub(crate) fn shown(&mut self) -> Shown {
        let mut counts = self.counts.clone();
        let first = |set: &BTreeSet<(Timestamp, CommandId)>| set.first().map(|(since, _)| *since);
        (counts.holders, counts.waiters) = (self.holding.len(), self.waiting.len());
        counts.attention_since = first(&self.resting);
        counts.holder_since = first(&self.holding);
        counts.waiter_since = first(&self.waiting);
        let (figures, ended) = (self.figures.clone(), std::mem::take(&mut self.ended));
        Box::new(move || figures.show(counts, &ended))
    }

    fn command(&mut self, command: &Command) {
        let id = command.id;
        if let Some(old) = self.commands.remove(&id) {
            self.counts.commands[old.kind as usize][old.state as usize] -= 1;
            old.rests_since.map(|since| self.resting.remove(&(since, id)));
            match old.state {
                CommandState::Pending => drop(self.waiting.remove(&(old.created, id))),
                _ if old.locks > 0 => {
                    self.holding.remove(&(old.created, id));
                    self.counts.locks -= old.locks;
                }
                _ => {}
            }
            if command.state.is_terminal() {
                self.counts.commands_ended[old.kind as usize][command.state as usize] += 1;
                let ended = command.ended.unwrap_or(command.created);
                let micros = ended.as_micros().saturating_sub(command.created.as_micros());
                self.ended.push((old.kind, micros.max(0) as f64 / 1e6));
            }
        }
        if command.state.is_terminal() {
            return;
        }
        let rests_since = match (command.state, &command.waiting_for) {
            (CommandState::NeedsAttention, Some(waiting_for)) => Some(waiting_for.since),
            _ => None,
        };
        let new = Live {
            kind: command.kind(),
            state: command.state,
            created: command.created,
            rests_since,
            locks: command.locks.len(),
        };
        self.counts.commands[new.kind as usize][new.state as usize] += 1;
        self.resting.extend(rests_since.map(|since| (since, id)));
        match new.state {
            CommandState::Pending => drop(self.waiting.insert((new.created, id))),
            _ if new.locks > 0 => {
                self.holding.insert((new.created, id));
                self.counts.locks += new.locks;
            }
            _ => {}
        }
        self.commands.insert(id, new);
    }

    fn task(&mut self, task: &AsyncTask) {
        let verb = verb_of(task);
        let is_over = task.async_state == AsyncTaskState::Cleared;
        let foreign_locks =
            (task.purpose == Purpose::Foreign && task.is_open()).then(|| task.entities().len());
        let new = Known {
            verb,
            state: task.async_state,
            foreign_locks,
        };
        let old = match self.tasks.entry(task.id) {
            Entry::Occupied(known) if is_over => Some(known.remove()),
            Entry::Occupied(mut known) => Some(known.insert(new)),
            Entry::Vacant(place) => {
                if !is_over {
                    place.insert(new);
                }
                None
            }
        };
        if let Some(old) = old {
            self.counts.tasks[old.verb][old.state as usize] -= 1;
            if let Some(locks) = old.foreign_locks {
                self.counts.foreign -= 1;
                self.counts.locks -= locks;
            }
            if !old.state.is_over()
                && let Some(ending) = task.ending()
            {
                let ending = match ending {
                    Ending::Done => 0,
                    Ending::Untouched(_) => 1,
                    Ending::Unclear(_) => 2,
                };
                self.counts.tasks_ended[verb][ending] += 1;
            }
        }
        if !is_over {
            self.counts.tasks[verb][new.state as usize] += 1;
        }
        if let Some(locks) = foreign_locks {
            self.counts.foreign += 1;
            self.counts.locks += locks;
        }
    }
}

fn verb_of(task: &AsyncTask) -> usize {
    let name = task.operation.as_ref().map(Operation::name);
    let at = name.and_then(|name| Operation::ALL_NAMES.iter().position(|known| *known == name));
    at.unwrap_or(VERBS - 1)
}

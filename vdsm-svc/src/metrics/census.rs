//! Counts of the working state and of what has ended, kept up to date with each change, so that reading the metrics
//! never walks through the state.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use common::operation::Operation;
use common::task::TaskState;
use common::time::Timestamp;
use runtime::machine::Shown;
use runtime::metrics::{Histogram, LONG};
use vdsm_core::{Change, Ordinal, State, Task};

const STATES: usize = TaskState::ALL.len();
/// One more than there are verbs: a task that was aborted before it was started has no operation.
const VERBS: usize = Operation::ALL_NAMES.len() + 1;

/// The figures after a commit.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By operation and state.
    pub(super) tasks: [[u64; STATES]; VERBS],
    /// The same for tasks that are over.
    pub(super) ended: [[u64; STATES]; VERBS],
    pub(super) running: usize,
    pub(super) queued: usize,
    /// When the longest-waiting task was accepted.
    pub(super) queued_since: Option<Timestamp>,
}

/// The figures as last committed. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Figures(Arc<Board>);

#[derive(Debug)]
struct Board {
    counts: Mutex<Counts>,
    waits: Histogram,
    runs: Vec<Histogram>,
}

impl Default for Figures {
    fn default() -> Self {
        Self(Arc::new(Board {
            counts: Mutex::default(),
            waits: Histogram::new(LONG),
            runs: (0..VERBS).map(|_| Histogram::new(LONG)).collect(),
        }))
    }
}

/// A task's duration, for one of the histograms.
#[derive(Debug, Clone, Copy)]
enum Took {
    ToBegin(f64),
    ToEnd(usize, f64),
}

impl Figures {
    pub(super) fn counts(&self) -> Counts {
        self.0
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn waits(&self) -> &Histogram {
        &self.0.waits
    }

    /// One for each operation, in the order of their names; the last is for tasks without an operation.
    pub(super) fn runs(&self) -> &[Histogram] {
        &self.0.runs
    }

    fn show(&self, counts: Counts, took: &[Took]) {
        *self.0.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        for took in took {
            match *took {
                Took::ToBegin(seconds) => self.0.waits.observe(seconds),
                Took::ToEnd(verb, seconds) => {
                    if let Some(runs) = self.0.runs.get(verb) {
                        runs.observe(seconds);
                    }
                }
            }
        }
    }
}

/// Counts the working state of one host and lives as long as the state; its figures are shown once they are durable.
#[derive(Debug)]
pub(crate) struct Census {
    figures: Figures,
    counts: Counts,
    tasks: HashMap<Ordinal, (usize, TaskState, Timestamp)>,
    queued: BTreeSet<(Timestamp, Ordinal)>,
    took: Vec<Took>,
}

impl Census {
    /// Counts a loaded state. Counters go on from the values that were shown before.
    pub(crate) fn of(figures: Figures, state: &State) -> Self {
        let counts = Counts {
            ended: figures.counts().ended,
            ..Counts::default()
        };
        let mut census = Self {
            figures,
            counts,
            tasks: HashMap::new(),
            queued: BTreeSet::new(),
            took: Vec::new(),
        };
        state.unfinished().for_each(|task| census.task(task));
        // Tasks that ran when an earlier start ended were counted by that start.
        census.took.clear();
        census
    }

    /// Counts the changes of a step.
    pub(crate) fn take(&mut self, revisions: &[Vec<Change>]) {
        for change in revisions.iter().flatten() {
            match change {
                Change::Task(task) => self.task(task),
                Change::Noted(_) | Change::Owner(_) | Change::Forgotten { .. } => {}
            }
        }
    }

    /// The figures to show once everything counted so far is durable.
    pub(crate) fn shown(&mut self) -> Shown {
        let mut counts = self.counts.clone();
        counts.queued = self.queued.len();
        counts.queued_since = self.queued.first().map(|(since, _)| *since);
        let (figures, took) = (self.figures.clone(), std::mem::take(&mut self.took));
        Box::new(move || figures.show(counts, &took))
    }

    fn task(&mut self, task: &Task) {
        let old = self.tasks.remove(&task.ordinal);
        let verb = old.map_or_else(|| verb_of(task), |(verb, ..)| verb);
        if let Some((_, state, created)) = old {
            self.counts.tasks[verb][state as usize] -= 1;
            self.counts.running -= usize::from(runs(state));
            self.queued.remove(&(created, task.ordinal));
        }
        let was = old.map(|(_, state, _)| state);
        if was.is_some_and(|was| was != task.state) {
            let seconds = |from: Timestamp, to: Timestamp| {
                to.as_micros().saturating_sub(from.as_micros()).max(0) as f64 / 1e6
            };
            match (task.state, task.start_time, task.end_time) {
                (TaskState::Running, Some(begun), _) => {
                    self.took.push(Took::ToBegin(seconds(task.create_time, begun)));
                }
                (_, Some(begun), Some(ended)) => self.took.push(Took::ToEnd(verb, seconds(begun, ended))),
                _ => {}
            }
            if task.state.is_terminal() {
                self.counts.ended[verb][task.state as usize] += 1;
            }
        }
        if task.state.is_terminal() {
            return;
        }
        self.counts.tasks[verb][task.state as usize] += 1;
        self.counts.running += usize::from(runs(task.state));
        if !runs(task.state) {
            self.queued.insert((task.create_time, task.ordinal));
        }
        self.tasks
            .insert(task.ordinal, (verb, task.state, task.create_time));
    }
}

/// Whether the task has a place among the running ones; otherwise it waits for one.
const fn runs(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Running | TaskState::Aborting | TaskState::Recovering
    )
}

fn verb_of(task: &Task) -> usize {
    let name = task.operation.as_ref().map(Operation::name);
    let at = name.and_then(|name| Operation::ALL_NAMES.iter().position(|known| *known == name));
    at.unwrap_or(VERBS - 1)
}

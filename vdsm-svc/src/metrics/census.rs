//! What there is, and what has ended, counted as it changes: whoever measures never makes anybody go through all of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use common::operation::Operation;
use common::task::TaskState;
use common::time::Timestamp;
use runtime::machine::Shown;
use runtime::metrics::{Histogram, LONG};
use vdsm_core::{Change, Ordinal, State, Task};

const STATES: usize = TaskState::ALL.len();
/// One more than there are: a task that was aborted before it was started has no operation.
const VERBS: usize = Operation::ALL_NAMES.len() + 1;

/// What is so after a commit.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By the operation, and the state.
    pub(super) tasks: [[u64; STATES]; VERBS],
    /// The same of those that are over.
    pub(super) ended: [[u64; STATES]; VERBS],
    pub(super) running: usize,
    pub(super) queued: usize,
    /// When the task was accepted that has waited for longest.
    pub(super) queued_since: Option<Timestamp>,
}

/// The figures as they were committed last. Cheap to clone; all clones are one.
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

/// How long a task has taken, for one of the histograms.
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

    /// Of each operation, in the order of their names; last that of none.
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

/// Counts the working state of one host; it goes with it, and its figures are shown once they are durable.
#[derive(Debug)]
pub(crate) struct Census {
    figures: Figures,
    counts: Counts,
    tasks: HashMap<Ordinal, (usize, TaskState, Timestamp)>,
    queued: BTreeSet<(Timestamp, Ordinal)>,
    took: Vec<Took>,
}

impl Census {
    /// Of what was loaded. What was counted before goes on from what was shown of it.
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
        // Those that ran when an earlier start ended were told by that one.
        census.took.clear();
        census
    }

    /// Takes in what a step changed.
    pub(crate) fn take(&mut self, revisions: &[Vec<Change>]) {
        for change in revisions.iter().flatten() {
            match change {
                Change::Task(task) => self.task(task),
                Change::Noted(_) | Change::Owner(_) | Change::Forgotten { .. } => {}
            }
        }
    }

    /// What is shown once all that was taken in is durable.
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

/// Whether it has a place among the running ones; else it waits for one.
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

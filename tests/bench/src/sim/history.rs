//! The tasks of a simulated host and the history of their states.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::id::StoreId;
use common::revision::{Revision, Start, Token};
use common::task::{TaskEvent, TaskState};
use proto::convert;
use proto::encode;
use proto::encoded::v1::watch_response::Changes;
use proto::host::v1::Task;
use proto::task::v1 as wire;
use tokio::sync::watch;

use crate::clock;

/// A real host runs so many at once, so this many tasks' edges are mixed with each other.
const AT_ONCE: usize = 8;

/// What happened, in order; revision `n` is the edge at `n - 1`.
#[derive(Debug)]
pub(crate) struct History {
    store_id: StoreId,
    start: Start,
    inner: Mutex<Inner>,
    /// Up to which revision watchers may see it.
    shown: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: Vec<Task>,
    places: HashMap<String, usize>,
    /// Where each task stands.
    now: Vec<Edge>,
    edges: Vec<Edge>,
    held: bool,
}

/// One change of one task.
#[derive(Debug, Clone, Copy)]
struct Edge {
    place: usize,
    state: TaskState,
    sequence: u64,
    removed: bool,
}

impl History {
    /// Of a new data directory.
    pub(super) fn new() -> Self {
        Self {
            store_id: StoreId::from_uuid(uuid::Uuid::new_v4()),
            start: Start(1),
            inner: Mutex::default(),
            shown: watch::Sender::new(0),
        }
    }

    /// Whose history it is.
    pub(super) const fn identity(&self) -> (StoreId, Start) {
        (self.store_id, self.start)
    }

    /// Up to which revision watchers may see it.
    pub(super) fn shown(&self) -> watch::Receiver<usize> {
        self.shown.subscribe()
    }

    /// The point up to which watchers may see it.
    pub(crate) fn token(&self) -> String {
        self.token_at(*self.shown.borrow())
    }

    /// Watchers see nothing new until [`History::let_go`].
    pub(crate) fn hold(&self) {
        self.lock().held = true;
    }

    /// Watchers see all that has happened, and what happens.
    pub(crate) fn let_go(&self) {
        let mut inner = self.lock();
        inner.held = false;
        self.show(&inner);
    }

    /// While the rest is held back, watchers see so many edges more. Returns how many are held back then.
    pub(crate) fn show_more(&self, edges: usize) -> usize {
        let last = self.lock().edges.len();
        self.shown
            .send_modify(|shown| *shown = shown.saturating_add(edges).min(last));
        last - *self.shown.borrow()
    }

    /// How many tasks were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.lock().tasks.len()
    }

    /// Accepts a task, once: returns it as it is now, and the point at which it is so.
    pub(super) fn accept(&self, task: Task) -> (Task, String) {
        let mut inner = self.lock();
        let place = match inner.places.get(&task.task_id) {
            Some(place) => *place,
            None => {
                let place = inner.tasks.len();
                inner.places.insert(task.task_id.clone(), place);
                inner.tasks.push(task);
                let accepted = Edge {
                    place,
                    state: TaskState::Init,
                    sequence: 1,
                    removed: false,
                };
                inner.now.push(accepted);
                inner.edges.push(accepted);
                place
            }
        };
        let answer = (inner.task(inner.now[place]), self.token_at(inner.edges.len()));
        self.show(&inner);
        answer
    }

    /// The outcome of a task is safe elsewhere. None for an unknown id.
    pub(super) fn clear(&self, task_id: &str) -> Option<(Task, String)> {
        let mut inner = self.lock();
        let place = *inner.places.get(task_id)?;
        let last = inner.now[place];
        if !last.removed {
            inner.push(Edge {
                sequence: last.sequence + 1,
                removed: true,
                ..last
            });
        }
        let answer = (inner.task(inner.now[place]), self.token_at(inner.edges.len()));
        self.show(&inner);
        Some(answer)
    }

    /// A task as it is now.
    pub(super) fn task(&self, task_id: &str) -> Option<Task> {
        let inner = self.lock();
        let place = *inner.places.get(task_id)?;
        Some(inner.task(inner.now[place]))
    }

    /// Moves every task along the road up to `goal`, edge by edge, [`AT_ONCE`] tasks mixed with each other.
    /// Returns how many edges that were.
    pub(crate) fn drive(&self, goal: TaskState) -> usize {
        let mut inner = self.lock();
        let before = inner.edges.len();
        let behind: Vec<usize> = (0..inner.now.len())
            .filter(|place| inner.now[*place].state < goal)
            .collect();
        for group in behind.chunks(AT_ONCE) {
            while group.iter().any(|place| inner.now[*place].state < goal) {
                group.iter().for_each(|place| inner.step(*place, goal));
            }
        }
        self.show(&inner);
        inner.edges.len() - before
    }

    /// The revision after `after`, if watchers may see it.
    pub(super) fn after(&self, after: usize) -> Changes {
        let inner = self.lock();
        Changes {
            revision: after as u64 + 1,
            token: self.token_at(after + 1),
            commit_time: Some(clock::now()),
            items: vec![encode::once(&inner.task(inner.edges[after]))],
            more: false,
        }
    }

    /// Every task that is not cleared, as it was at a revision.
    pub(super) fn snapshot(&self, revision: usize) -> Vec<Task> {
        let inner = self.lock();
        let mut last = HashMap::new();
        for edge in &inner.edges[..revision] {
            last.insert(edge.place, *edge);
        }
        let mut edges: Vec<Edge> = last.into_values().filter(|edge| !edge.removed).collect();
        edges.sort_by_key(|edge| edge.place);
        edges.into_iter().map(|edge| inner.task(edge)).collect()
    }

    /// A point as text.
    pub(super) fn token_at(&self, revision: usize) -> String {
        let token = Token {
            store_id: self.store_id,
            start: self.start,
            revision: Revision(revision as u64),
        };
        token.to_string()
    }

    fn show(&self, inner: &Inner) {
        if !inner.held {
            self.shown.send_replace(inner.edges.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, edge: Edge) {
        self.now[edge.place] = edge;
        self.edges.push(edge);
    }

    /// One edge further along the road, unless the task is there.
    fn step(&mut self, place: usize, goal: TaskState) {
        let last = self.now[place];
        let event = match last.state {
            TaskState::Init => TaskEvent::Accept,
            TaskState::Preparing => TaskEvent::Enqueue,
            TaskState::Queued => TaskEvent::Run,
            _ => TaskEvent::Finish,
        };
        if last.state < goal
            && let Ok(state) = last.state.next(event)
        {
            let sequence = last.sequence + 1;
            self.push(Edge {
                state,
                sequence,
                ..last
            });
        }
    }

    /// A task as it was after an edge.
    fn task(&self, edge: Edge) -> Task {
        let accepted = &self.tasks[edge.place];
        let state = edge.state;
        let started = matches!(state, TaskState::Running | TaskState::Finished);
        Task {
            state: convert::state_to_wire(state).into(),
            status: convert::status_to_wire(state.status()).into(),
            result: convert::result_to_wire(state.result()).into(),
            sequence: edge.sequence,
            cancelable: !state.is_terminal(),
            start_time: accepted.create_time.filter(|_| started),
            end_time: accepted.create_time.filter(|_| state.is_terminal()),
            removed: edge.removed,
            ..accepted.clone()
        }
    }
}

/// A task as it is accepted.
pub(super) fn accepted(
    task_id: String,
    operation: Option<wire::Operation>,
    engine_id: String,
    correlation_id: String,
) -> Task {
    Task {
        task_id,
        operation,
        engine_id,
        correlation_id,
        create_time: Some(clock::now()),
        ..Task::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(tasks: usize) -> History {
        let history = History::new();
        for number in 0..tasks {
            history.accept(accepted(number.to_string(), None, String::new(), String::new()));
        }
        history
    }

    #[test]
    fn what_is_held_back_is_seen_when_it_is_let_go() {
        let history = history(3);
        history.hold();
        assert_eq!(history.drive(TaskState::Running), 9);
        assert_eq!(*history.shown().borrow(), 3);
        history.let_go();
        assert_eq!(*history.shown().borrow(), 12);
    }

    #[test]
    fn a_snapshot_shows_the_tasks_as_they_were_and_leaves_out_the_cleared() {
        let history = history(2);
        history.drive(TaskState::Finished);
        history.clear("0");
        assert!(history.snapshot(2).iter().all(|task| task.sequence == 1));
        let last = history.snapshot(*history.shown().borrow());
        assert_eq!(last.len(), 1);
        assert_eq!((last[0].task_id.as_str(), last[0].sequence), ("1", 5));
    }

    #[test]
    fn accepting_twice_is_accepting_once() {
        let history = history(1);
        history.accept(accepted("0".into(), None, String::new(), String::new()));
        assert_eq!(history.accepted(), 1);
    }
}

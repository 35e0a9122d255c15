//! redb's group commit behind a channel: one thread makes all that waits one transaction.
//!
//! The records are those of a host's `noop` tasks: the revision that the caller waits for; and, in a later
//! transaction, the one that finishes the task and lets the next one run in its place.

use std::collections::VecDeque;
use std::thread;

use proto::vdsm::v1::Task;
use tokio::sync::{mpsc, oneshot};

use super::commit::{BareStore, Batch, Revision};
use crate::records;

/// Requests that may wait, and the most that one transaction takes.
const WAITING: usize = 1_024;

/// Tasks that run at once on a host, by default.
const PLACES: usize = 8;

/// A task to be recorded, and whom to tell when it is on disk.
type Waiting = (Task, oneshot::Sender<Task>);

/// Hands tasks to the writer.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn over(store: BareStore) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        thread::spawn(move || write(store, waiting));
        Self { queue }
    }

    /// Returns the task when it is on disk; none when the writer is gone.
    pub(super) async fn record(&self, task: Task) -> Option<Task> {
        let (answer, answered) = oneshot::channel();
        self.queue.send((task, answer)).await.ok()?;
        answered.await.ok()
    }
}

/// While a transaction is being synced, the next one's tasks gather.
fn write(mut store: BareStore, mut waiting: mpsc::Receiver<Waiting>) {
    let mut tasks = Tasks::default();
    loop {
        let mut accepted = Vec::new();
        if tasks.running.is_empty() {
            if waiting.blocking_recv_many(&mut accepted, WAITING) == 0 {
                return;
            }
        } else {
            accepted.extend(std::iter::from_fn(|| waiting.try_recv().ok()).take(WAITING));
        }
        let mut revisions = tasks.finish();
        revisions.extend(accepted.iter().map(|(task, _)| tasks.accept(task)));
        if store.commit(&Batch::new(revisions)).is_err() {
            // Those who wait see that their answers do not come.
            return;
        }
        for (task, answer) in accepted {
            // Whoever went away needs no answer.
            let _ = answer.send(task);
        }
    }
}

/// The tasks that are not over.
#[derive(Debug, Default)]
struct Tasks {
    next_slot: u64,
    running: Vec<(u64, Task)>,
    queued: VecDeque<(u64, Task)>,
}

impl Tasks {
    fn accept(&mut self, task: &Task) -> Revision {
        self.next_slot += 1;
        let runs = self.running.len() < PLACES;
        let entry = (self.next_slot, task.clone());
        if runs {
            self.running.push(entry);
        } else {
            self.queued.push_back(entry);
        }
        records::accepted(self.next_slot, task, runs)
    }

    /// All that run are done, and as many others run.
    fn finish(&mut self) -> Vec<Revision> {
        let mut revisions = Vec::with_capacity(PLACES);
        for (slot, task) in std::mem::take(&mut self.running) {
            let next = self.queued.pop_front();
            let begins = next.as_ref().map(|(slot, task)| (*slot, task));
            revisions.push(records::finished((slot, &task), begins));
            self.running.extend(next);
        }
        revisions
    }
}

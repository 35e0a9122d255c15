//! redb's group commit behind a channel: one thread makes all that waits one transaction.
//!
//! The records are those of a host's `noop` tasks: the revision that the caller waits for, and in a later
//! transaction the one that finishes the task. They are encoded before they get here: the thread only writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proto::host::v1::Task;
use tokio::sync::{mpsc, oneshot};

use super::commit::{BareStore, Batch, Revision};
use crate::records;

/// Requests that may wait, and the most that one transaction takes.
const WAITING: usize = 512;

/// Tasks that run, and so can finish, at once on a host, by default.
const PLACES: usize = 8;

/// A task's two revisions, and whom to tell when the first is on disk.
#[derive(Debug)]
struct Waiting {
    accepted: Revision,
    finished: Revision,
    answer: oneshot::Sender<()>,
}

/// Hands tasks to the writer.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Waiting>,
    slots: AtomicU64,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn over(store: BareStore) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        thread::spawn(move || write(store, waiting));
        let slots = AtomicU64::new(1);
        Self { queue, slots }
    }

    /// Returns when the task is on disk; none when the writer is gone.
    pub(super) async fn record(&self, task: &Task) -> Option<()> {
        let slot = self.slots.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            accepted: records::accepted(slot, task),
            finished: records::finished(slot, task),
            answer,
        };
        self.queue.send(waiting).await.ok()?;
        answered.await.ok()
    }
}

/// While a transaction is being synced, the next one's tasks gather.
fn write(mut store: BareStore, mut queue: mpsc::Receiver<Waiting>) {
    let mut running: VecDeque<Revision> = VecDeque::new();
    loop {
        let mut waiting = Vec::new();
        if running.is_empty() {
            if queue.blocking_recv_many(&mut waiting, WAITING) == 0 {
                return;
            }
        } else {
            waiting.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(WAITING));
        }
        let mut revisions: Vec<Revision> = running.drain(..running.len().min(PLACES)).collect();
        let mut answers = Vec::with_capacity(waiting.len());
        for task in waiting {
            revisions.push(task.accepted);
            running.push_back(task.finished);
            answers.push(task.answer);
        }
        if store.commit(&Batch::new(revisions)).is_err() {
            // Those who wait see that their answers do not come.
            return;
        }
        for answer in answers {
            // Whoever went away needs no answer.
            let _ = answer.send(());
        }
    }
}

//! Commits the machine's batches, and publishes them only after they are durable.
//!
//! A small batch is committed by the coordinator itself. A large one is handed to another thread, so that the machine
//! can step the next one meanwhile: under load, half of the work is the disk's and half the machine's. There is one
//! [`Committer`], and it goes with the batch: whoever has it may commit, so batches stay in order.

use std::io;
use std::sync::Arc;

use store::{Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::batch::Batch;
use super::{Options, Perform, Refusal, Retention};
use crate::ages::Ages;
use crate::log::Log;
use crate::machine::Machine;
use crate::threads;

/// After how many revisions a piece of the history is trimmed: a piece has more revisions than that, so trimming
/// keeps up with any rate.
const TRIM_AFTER_REVISIONS: u64 = 1_000;

/// The result of a commit: whether there is more of the history to trim.
pub(super) type CommitResult = Result<bool, StoreError>;

/// Commits batches, one after the other.
pub(super) struct Committer<M: Machine, P> {
    store: Arc<dyn Store>,
    log: Arc<Log<M::History>>,
    perform: P,
    /// The runtime that the coordinator was spawned in: callers wait in it, and effects may spawn tasks in it.
    runtime: Option<Handle>,
    retention: Retention,
    ages: Ages,
    trimmed_at: u64,
}

impl<M: Machine, P: Perform<M::Effect>> Committer<M, P> {
    pub(super) fn new(
        store: Arc<dyn Store>,
        log: Arc<Log<M::History>>,
        perform: P,
        options: &Options,
    ) -> Self {
        Self {
            store,
            log,
            perform,
            runtime: Handle::try_current().ok(),
            retention: options.retention,
            ages: options.ages.clone(),
            trimmed_at: 0,
        }
    }

    /// Persist, then publish, then answer, then act. Returns whether there is more of the history to trim.
    ///
    /// # Errors
    /// [`StoreError`] if the outcome is unknown: nobody was notified of anything else.
    pub(super) async fn commit(&mut self, batch: Batch<M>) -> CommitResult {
        // A process that dies in this time leaves nothing of the batch.
        #[cfg(feature = "simulation")]
        crate::simulation::pass(crate::simulation::Takes::Commit).await;
        self.commit_now(batch)
    }

    fn commit_now(&mut self, mut batch: Batch<M>) -> CommitResult {
        batch.hit("commit.before");
        let commits = batch.take_commits();
        if !commits.is_empty() {
            let meters = self.log.meters();
            let begun = meters.now();
            let committed = self.store.commit(Arc::clone(&commits));
            meters.committed(begun, commits.len(), committed.is_ok());
            if let Err(error) = committed {
                batch.refuse(&Refusal::unavailable(&*self.store));
                return Err(error);
            }
        }
        batch.hit("commit.after");
        tracing::trace!(revision = batch.last().0, "committed");
        // The thread's own runtime has nothing but timers.
        let entered = self.runtime.as_ref().map(Handle::enter);
        batch.finish(&commits, &self.log, &mut self.perform, self.runtime.as_ref());
        drop(entered);
        let due = self.log.current().0 >= self.trimmed_at + TRIM_AFTER_REVISIONS;
        Ok(due && self.trim())
    }

    /// Trims a piece of the history; returns whether there is more. The next commit will notice a failure.
    pub(super) fn trim(&mut self) -> bool {
        let current = self.log.current();
        self.trimmed_at = current.0;
        let trimmed = self.retention.trim(&*self.store, current, &self.ages);
        trimmed.unwrap_or_else(|error| {
            tracing::warn!(%error, "the history could not be trimmed");
            false
        })
    }
}

/// Whether a small batch is committed by the other thread like a large one: in a simulation the seed decides.
fn is_ahead_by_chance() -> bool {
    #[cfg(feature = "simulation")]
    return crate::simulation::world().is_some_and(|world| world.steps_ahead());
    #[cfg(not(feature = "simulation"))]
    false
}

/// The way of batches to the disk.
pub(super) struct Pipeline<M: Machine, P> {
    /// None while it commits a batch.
    committer: Option<Committer<M, P>>,
    away: mpsc::UnboundedSender<(Committer<M, P>, Batch<M>)>,
    back: mpsc::UnboundedReceiver<(Committer<M, P>, CommitResult)>,
}

impl<M: Machine, P: Perform<M::Effect>> Pipeline<M, P> {
    /// Starts the thread for large batches, named `name`. It ends when this is dropped.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn new(name: &str, committer: Committer<M, P>) -> io::Result<Self> {
        // Only one batch at a time is being committed: there is one committer.
        let (away, mut work) = mpsc::unbounded_channel::<(Committer<M, P>, Batch<M>)>();
        let (done, back) = mpsc::unbounded_channel();
        threads::dedicate(format!("{name}-commit"), async move {
            while let Some((mut committer, batch)) = work.recv().await {
                let outcome = committer.commit(batch).await;
                // The receiver is gone only if the coordinator has panicked.
                let _ = done.send((committer, outcome));
            }
        })?;
        Ok(Self {
            committer: Some(committer),
            away,
            back,
        })
    }

    /// The committer, unless it is committing.
    pub(super) fn committer(&mut self) -> Option<&mut Committer<M, P>> {
        self.committer.as_mut()
    }

    /// Commits the open batch, a large one on the other thread; returns the result if it was committed here. While
    /// the committer is busy with another batch, the batch stays open.
    pub(super) async fn commit(&mut self, open: &mut Batch<M>) -> Option<CommitResult> {
        let mut committer = self.committer.take()?;
        let next = open.next();
        let batch = std::mem::replace(open, next);
        if batch.is_large() || is_ahead_by_chance() {
            // The receiver is gone only if that thread has panicked, which waiters notice.
            let _ = self.away.send((committer, batch));
            return None;
        }
        let outcome = committer.commit(batch).await;
        self.committer = Some(committer);
        Some(outcome)
    }

    /// Takes the committer back if it is done, with the result of its batch.
    pub(super) fn look(&mut self) -> Option<CommitResult> {
        let (committer, outcome) = self.back.try_recv().ok()?;
        self.committer = Some(committer);
        Some(outcome)
    }

    /// Waits for the committer, for ever if it is not committing; none if its thread has panicked.
    pub(super) async fn returned(&mut self) -> Option<CommitResult> {
        if self.committer.is_some() {
            return std::future::pending().await;
        }
        let (committer, outcome) = self.back.recv().await?;
        self.committer = Some(committer);
        Some(outcome)
    }

    /// Whether the committer is committing.
    pub(super) fn is_away(&self) -> bool {
        self.committer.is_none()
    }
}

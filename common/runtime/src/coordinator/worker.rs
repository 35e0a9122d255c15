//! The coordinator's loop: in a service on a thread of its own, in a simulation as a task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::batch::Batch;
use super::committer::{CommitResult, Committer, Pipeline};
use super::{Envelope, Message, Options, Perform, Refusal};
use crate::ages::Ages;
use crate::log::Log;
use crate::machine::Machine;

/// How often an idle coordinator looks for history that is too old.
const TRIM_WHEN_IDLE: Duration = Duration::from_secs(60);

/// How long the coordinator waits for an input before it trims another piece, if there is more to trim.
const TRIM_NEXT_PIECE: Duration = Duration::from_millis(10);

/// The first wait before a failed store is opened again; doubled up to [`REOPEN_AT_MOST`].
const REOPEN_AT_FIRST: Duration = Duration::from_millis(10);

/// The longest such wait: a disk that comes back is noticed within it. It is also the wait if the store was opened
/// again and the first commit failed as before.
const REOPEN_AT_MOST: Duration = Duration::from_secs(1);

pub(super) struct Worker<M: Machine, P> {
    store: Arc<dyn Store>,
    seed: M::Seed,
    log: Arc<Log<M::History>>,
    pipeline: Pipeline<M, P>,
    ages: Ages,
    inbox: mpsc::Receiver<Message<M>>,
}

/// Why a machine is dropped.
enum End {
    /// The store failed: load the machine again.
    Failed(StoreError),
    /// The coordinator stops. Dropping the senders tells those who wait for the end.
    Stopped(Vec<oneshot::Sender<()>>),
}

/// The next event of the loop.
enum Next<M: Machine> {
    Input(Envelope<M>),
    Clock(oneshot::Sender<()>),
    /// The committer is back; whether there is more to trim.
    Committed(CommitResult),
    Nothing,
    End(Vec<oneshot::Sender<()>>),
}

impl<M: Machine, P: Perform<M::Effect>> Worker<M, P> {
    pub(super) fn new(
        store: Arc<dyn Store>,
        seed: M::Seed,
        log: Arc<Log<M::History>>,
        perform: P,
        options: Options,
        inbox: mpsc::Receiver<Message<M>>,
    ) -> io::Result<Self> {
        let committer = Committer::new(Arc::clone(&store), Arc::clone(&log), perform, &options);
        Ok(Self {
            store,
            seed,
            log,
            pipeline: Pipeline::new(&options.name, committer)?,
            ages: options.ages,
            inbox,
        })
    }

    /// Loads the machine from the last committed snapshot, and sets the log to that revision.
    pub(super) fn load(&self) -> Result<M, StoreError> {
        let reader = self.store.reader()?;
        let machine = M::load(&*reader, &self.seed)?;
        self.log.advance(reader.revision());
        Ok(machine)
    }

    /// Runs until the coordinator is stopped. The caller drops the result after everything else, which ends the wait
    /// of whoever stopped the coordinator.
    pub(super) async fn run(mut self, machine: M) -> Vec<oneshot::Sender<()>> {
        let mut machine = machine;
        let mut opened_at = None;
        loop {
            let Err(end) = self.work(machine).await;
            match end {
                End::Stopped(waiting) => return waiting,
                End::Failed(error) => {
                    tracing::error!(%error, "a commit failed and its outcome is unknown: reopening the store");
                    // Opening and loading again and again helps nobody if the first commit fails each time.
                    if opened_at == Some(self.log.current())
                        && let Err(waiting) = self.refuse_for(REOPEN_AT_MOST).await
                    {
                        return waiting;
                    }
                    match self.revive().await {
                        Ok(loaded) => machine = loaded,
                        Err(waiting) => return waiting,
                    }
                    opened_at = Some(self.log.current());
                }
            }
        }
    }

    async fn work(&mut self, mut machine: M) -> Result<std::convert::Infallible, End> {
        let mut open = Batch::after(self.log.current(), &self.ages);
        if let Some(input) = machine.recover() {
            let recovery = Envelope {
                input,
                sent: None,
                answer: None,
            };
            open.step(&mut machine, recovery);
        }
        let mut patience = TRIM_NEXT_PIECE;
        loop {
            if let Some(waiting) = self.fill(&mut machine, &mut open) {
                self.conclude(open).await;
                return Err(End::Stopped(self.refuse_rest(waiting)));
            }
            if !self.pipeline.is_away() && !open.is_empty() {
                open.seal(&mut machine);
            }
            let committed = self.send_off(&mut open).await;
            let next = match committed {
                Some(outcome) => Next::Committed(outcome),
                None => self.wait(patience, !open.is_full()).await,
            };
            match next {
                Next::Input(envelope) => open.step(&mut machine, envelope),
                Next::Clock(noted) => open.keep_clock(noted),
                Next::Committed(Ok(more)) => {
                    if more {
                        patience = TRIM_NEXT_PIECE;
                    }
                }
                Next::Committed(Err(error)) => {
                    // The batch builds on changes that may not have happened.
                    open.refuse(&Refusal::unavailable(&*self.store));
                    return Err(End::Failed(error));
                }
                Next::Nothing => {
                    // During a commit nobody can say whether there is more to trim.
                    if let Some(more) = self.pipeline.committer().map(Committer::trim) {
                        patience = if more { TRIM_NEXT_PIECE } else { TRIM_WHEN_IDLE };
                    }
                }
                Next::End(waiting) => {
                    self.conclude(open).await;
                    return Err(End::Stopped(waiting));
                }
            }
        }
    }

    /// Steps the machine with all waiting inputs, as long as the batch has room; a request to stop ends this.
    fn fill(&mut self, machine: &mut M, open: &mut Batch<M>) -> Option<oneshot::Sender<()>> {
        while !open.is_full() {
            match self.inbox.try_recv() {
                Ok(Message::Input(envelope)) => open.step(machine, envelope),
                Ok(Message::Clock(noted)) => open.keep_clock(noted),
                Ok(Message::Stop(waiting)) => return Some(waiting),
                Err(_) => break,
            }
        }
        None
    }

    /// Has the open batch committed, unless another commit is under way: then the batch stays open, and grows.
    /// Returns the result of a finished commit.
    async fn send_off(&mut self, open: &mut Batch<M>) -> Option<CommitResult> {
        match self.pipeline.look() {
            None if !open.is_empty() => self.pipeline.commit(open).await,
            outcome => outcome,
        }
    }

    /// Commits the batch under way and the open one, and answers their callers.
    async fn conclude(&mut self, open: Batch<M>) {
        let settled = !self.pipeline.is_away() || matches!(self.pipeline.returned().await, Some(Ok(_)));
        match self.pipeline.committer() {
            // The next start reads the state from the store.
            Some(committer) if settled => drop(committer.commit(open).await),
            _ => open.refuse(&Refusal::unavailable(&*self.store)),
        }
    }

    /// Waits for the next event, for at most this time. `inputs`: whether there is room for inputs.
    async fn wait(&mut self, patience: Duration, inputs: bool) -> Next<M> {
        let received = match inputs.then(|| self.inbox.try_recv()) {
            Some(Ok(message)) => Some(message),
            // Also if all senders are gone, which then waits for its turn.
            _ => tokio::select! {
                biased;
                outcome = self.pipeline.returned() => return outcome.map_or_else(defect, Next::Committed),
                message = self.inbox.recv(), if inputs => message,
                () = tokio::time::sleep(patience) => return Next::Nothing,
            },
        };
        match received {
            Some(Message::Input(envelope)) => Next::Input(envelope),
            Some(Message::Clock(noted)) => Next::Clock(noted),
            Some(Message::Stop(waiting)) => Next::End(self.refuse_rest(waiting)),
            // The last handle is gone.
            None => Next::End(Vec::new()),
        }
    }

    /// Opens the store again and loads the machine from it, however long that takes; inputs that come meanwhile are
    /// refused at once.
    async fn revive(&mut self) -> Result<M, Vec<oneshot::Sender<()>>> {
        let mut pause = REOPEN_AT_FIRST;
        loop {
            match self.store.reopen().and_then(|()| self.load()) {
                Ok(machine) => {
                    tracing::info!(revision = self.log.current().0, "the store is open again");
                    return Ok(machine);
                }
                Err(error) => tracing::warn!(%error, "the store cannot be opened; trying again"),
            }
            self.refuse_for(pause).await?;
            pause = (pause * 2).min(REOPEN_AT_MOST);
        }
    }

    /// Refuses all inputs for this time.
    async fn refuse_for(&mut self, pause: Duration) -> Result<(), Vec<oneshot::Sender<()>>> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.wait(left, true).await {
                Next::Input(envelope) => refuse(envelope, Refusal::unavailable(&*self.store)),
                Next::Clock(_) => {}
                Next::Nothing | Next::Committed(_) => return Ok(()),
                Next::End(waiting) => return Err(waiting),
            }
        }
    }

    fn refuse_rest(&mut self, waiting: oneshot::Sender<()>) -> Vec<oneshot::Sender<()>> {
        self.inbox.close();
        let mut all = vec![waiting];
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Input(envelope) => refuse(envelope, Refusal::Stopping),
                Message::Clock(_) => {}
                Message::Stop(waiting) => all.push(waiting),
            }
        }
        all
    }
}

/// The commit thread is gone, and with it the committer: the service ends, and its next start decides.
fn defect<M: Machine>() -> Next<M> {
    tracing::error!("the commit thread ended unexpectedly: please report it");
    Next::End(Vec::new())
}

fn refuse<M: Machine>(envelope: Envelope<M>, refusal: Refusal) {
    if let Some(answer) = envelope.answer {
        // A caller that no longer waits for the answer does not miss it.
        let _ = answer.send(Err(refusal));
    }
}

//! The coordinator's loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::batch::Batch;
use super::{Envelope, Message, Options, Perform, Refusal};
use crate::clock;
use crate::log::Log;
use crate::machine::Machine;
use crate::store::{Store, StoreError};

/// After how many revisions a piece of the history is trimmed: a piece holds more than that, so trimming keeps up
/// with any rate.
const TRIM_AFTER_REVISIONS: u64 = 1_000;

/// How often an idle coordinator looks for history that is too old.
const TRIM_WHEN_IDLE: Duration = Duration::from_secs(60);

/// How long it waits for an input before it trims another piece, where there is more to trim.
const TRIM_NEXT_PIECE: Duration = Duration::from_millis(10);

/// The first wait before a store that failed is opened again; doubled up to [`REOPEN_AT_MOST`].
const REOPEN_AT_FIRST: Duration = Duration::from_millis(10);

/// A disk that comes back is noticed within this.
const REOPEN_AT_MOST: Duration = Duration::from_secs(1);

pub(super) struct Worker<M: Machine, P> {
    store: Arc<dyn Store>,
    seed: M::Seed,
    log: Arc<Log<M::History>>,
    perform: P,
    options: Options,
    inbox: mpsc::Receiver<Message<M>>,
    /// Only for waiting with a time-out: the machine runs outside it.
    clock: Runtime,
    trimmed_at: u64,
}

/// Why a machine is let go of.
enum End {
    /// Load it again.
    Failed(StoreError),
    /// The senders tell those who wait for the end.
    Stopped(Vec<oneshot::Sender<()>>),
}

/// What came in.
enum Next<M: Machine> {
    Input(Envelope<M>),
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
        Ok(Self {
            store,
            seed,
            log,
            perform,
            options,
            inbox,
            clock: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?,
            trimmed_at: 0,
        })
    }

    /// Reads the machine from the last committed picture, up to which the log reaches from then on.
    pub(super) fn load(&self) -> Result<M, StoreError> {
        let reader = self.store.reader()?;
        let machine = M::load(&*reader, &self.seed)?;
        self.log.advance(reader.revision());
        Ok(machine)
    }

    /// Runs until it is stopped. What it returns is dropped when all else is: that ends the wait of whoever
    /// stopped it.
    pub(super) fn run(mut self, machine: M) -> Vec<oneshot::Sender<()>> {
        let mut machine = machine;
        loop {
            let Err(end) = self.work(machine);
            match end {
                End::Stopped(waiting) => return waiting,
                End::Failed(error) => {
                    tracing::error!(%error, "a commit failed: its outcome is unknown; opening the store again");
                    match self.revive() {
                        Ok(loaded) => machine = loaded,
                        Err(waiting) => return waiting,
                    }
                }
            }
        }
    }

    fn work(&mut self, mut machine: M) -> Result<std::convert::Infallible, End> {
        if let Some(input) = machine.recover() {
            self.batch(&mut machine, Envelope { input, answer: None })?;
        }
        let mut patience = TRIM_NEXT_PIECE;
        loop {
            match self.wait(patience) {
                Next::Input(envelope) => {
                    self.batch(&mut machine, envelope)?;
                    if self.log.current().0 >= self.trimmed_at + TRIM_AFTER_REVISIONS && self.trim() {
                        patience = TRIM_NEXT_PIECE;
                    }
                }
                Next::Nothing => {
                    let more = self.trim();
                    patience = if more { TRIM_NEXT_PIECE } else { TRIM_WHEN_IDLE };
                }
                Next::End(waiting) => return Err(End::Stopped(waiting)),
            }
        }
    }

    /// Steps with an input and with all that wait behind it, makes everything durable, and only then lets
    /// anybody know: persist, then publish, then answer, then act.
    fn batch(&mut self, machine: &mut M, first: Envelope<M>) -> Result<(), End> {
        let mut batch = Batch::after(self.log.current());
        let mut stop = None;
        batch.step(machine, first);
        while !batch.is_full() {
            match self.inbox.try_recv() {
                Ok(Message::Input(envelope)) => batch.step(machine, envelope),
                Ok(Message::Stop(waiting)) => {
                    stop = Some(waiting);
                    break;
                }
                Err(_) => break,
            }
        }
        batch.hit("commit.before");
        if !batch.commits().is_empty()
            && let Err(error) = self.store.commit(batch.commits())
        {
            batch.refuse(Refusal::StoreUnavailable);
            return Err(match stop {
                None => End::Failed(error),
                Some(waiting) => End::Stopped(self.refuse_rest(waiting)),
            });
        }
        batch.hit("commit.after");
        tracing::trace!(revision = batch.last().0, "committed");
        batch.finish(&self.log, |effect| self.perform.perform(effect));
        match stop {
            None => Ok(()),
            Some(waiting) => Err(End::Stopped(self.refuse_rest(waiting))),
        }
    }

    /// The next input, if one comes in time.
    fn wait(&mut self, patience: Duration) -> Next<M> {
        let received = match self.inbox.try_recv() {
            Ok(message) => Some(message),
            Err(mpsc::error::TryRecvError::Disconnected) => None,
            Err(mpsc::error::TryRecvError::Empty) => {
                let received = self
                    .clock
                    .block_on(async { tokio::time::timeout(patience, self.inbox.recv()).await });
                match received {
                    Ok(received) => received,
                    Err(_) => return Next::Nothing,
                }
            }
        };
        match received {
            Some(Message::Input(envelope)) => Next::Input(envelope),
            Some(Message::Stop(waiting)) => Next::End(self.refuse_rest(waiting)),
            // The last handle is gone.
            None => Next::End(Vec::new()),
        }
    }

    /// Opens the store again and loads the machine from it, however long it takes; whatever comes meanwhile is
    /// refused at once.
    fn revive(&mut self) -> Result<M, Vec<oneshot::Sender<()>>> {
        let mut pause = REOPEN_AT_FIRST;
        loop {
            match self.store.reopen().and_then(|()| self.load()) {
                Ok(machine) => {
                    tracing::info!(revision = self.log.current().0, "the store is open again");
                    return Ok(machine);
                }
                Err(error) => tracing::warn!(%error, "the store cannot be opened; trying again"),
            }
            let until = Instant::now() + pause;
            pause = (pause * 2).min(REOPEN_AT_MOST);
            loop {
                match self.wait(until.saturating_duration_since(Instant::now())) {
                    Next::Input(envelope) => refuse(envelope, Refusal::StoreUnavailable),
                    Next::Nothing => break,
                    Next::End(waiting) => return Err(waiting),
                }
            }
        }
    }

    /// Forgets a piece of the history that is no longer to be kept; says whether there is more. A failure is the
    /// next commit's to find.
    fn trim(&mut self) -> bool {
        let current = self.log.current();
        self.trimmed_at = current.0;
        let trimmed = self.options.retention.trim(&*self.store, current, clock::now());
        trimmed.unwrap_or_else(|error| {
            tracing::warn!(%error, "the history could not be trimmed");
            false
        })
    }

    fn refuse_rest(&mut self, waiting: oneshot::Sender<()>) -> Vec<oneshot::Sender<()>> {
        self.inbox.close();
        let mut all = vec![waiting];
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Input(envelope) => refuse(envelope, Refusal::Stopping),
                Message::Stop(waiting) => all.push(waiting),
            }
        }
        all
    }
}

fn refuse<M: Machine>(envelope: Envelope<M>, refusal: Refusal) {
    if let Some(answer) = envelope.answer {
        // Whoever no longer waits for the answer does not miss it.
        let _ = answer.send(Err(refusal));
    }
}

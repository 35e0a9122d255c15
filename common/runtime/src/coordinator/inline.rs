//! The coordinator in a simulation: the same batches and the same commits, in the same order, on a task of the
//! world's one thread. What it lacks is what a thread of its own is for: stepping ahead of a commit.

use std::sync::Arc;
use std::time::Duration;

use store::{Store, StoreError};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::batch::Batch;
use super::committer::Committer;
use super::worker::{TRIM_NEXT_PIECE, TRIM_WHEN_IDLE, refuse};
use super::{Envelope, Message, Perform, Refusal};
use crate::ages::Ages;
use crate::log::Log;
use crate::machine::Machine;
use crate::simulation;

/// Before a store that failed is opened again.
const REOPEN: Duration = Duration::from_millis(50);

pub(super) struct Inline<M: Machine, P> {
    pub(super) store: Arc<dyn Store>,
    pub(super) seed: M::Seed,
    pub(super) log: Arc<Log<M::History>>,
    pub(super) committer: Committer<M, P>,
    pub(super) ages: Ages,
    pub(super) inbox: Receiver<Message<M>>,
}

/// Who waits for the end of it.
type Waiting = Vec<oneshot::Sender<()>>;

impl<M: Machine, P: Perform<M::Effect>> Inline<M, P> {
    /// Reads the machine from the last committed picture.
    pub(super) fn load(&self) -> Result<M, StoreError> {
        let reader = self.store.reader()?;
        let machine = M::load(&*reader, &self.seed)?;
        self.log.advance(reader.revision());
        Ok(machine)
    }

    /// Runs until it is stopped.
    pub(super) async fn run(mut self, machine: M) -> Waiting {
        let mut machine = machine;
        loop {
            if let Some(waiting) = self.work(machine).await {
                return waiting;
            }
            machine = loop {
                if let Some(waiting) = self.refuse_all(Refusal::StoreUnavailable) {
                    return waiting;
                }
                sleep(REOPEN).await;
                if let Ok(machine) = self.store.reopen().and_then(|()| self.load()) {
                    break machine;
                }
            };
        }
    }

    /// Until it is stopped, or, with none, until a commit fails.
    async fn work(&mut self, mut machine: M) -> Option<Waiting> {
        let mut batch = Batch::after(self.log.current(), &self.ages);
        if let Some(input) = machine.recover() {
            batch.step(&mut machine, Envelope { input, answer: None });
        }
        let mut patience = TRIM_NEXT_PIECE;
        loop {
            if batch.is_empty() {
                match timeout(patience, self.inbox.recv()).await {
                    Ok(Some(Message::Input(envelope))) => batch.step(&mut machine, envelope),
                    Ok(Some(Message::Clock(noted))) => batch.keep_clock(noted),
                    Ok(Some(Message::Stop(waiting))) => return Some(self.stop(waiting)),
                    Ok(None) => return Some(Vec::new()),
                    Err(_) => {
                        let more = self.committer.trim();
                        patience = if more { TRIM_NEXT_PIECE } else { TRIM_WHEN_IDLE };
                        continue;
                    }
                }
            }
            let mut stop = None;
            while stop.is_none() && !batch.is_full() {
                match self.inbox.try_recv() {
                    Ok(Message::Input(envelope)) => batch.step(&mut machine, envelope),
                    Ok(Message::Clock(noted)) => batch.keep_clock(noted),
                    Ok(Message::Stop(waiting)) => stop = Some(waiting),
                    Err(_) => break,
                }
            }
            let next = batch.next();
            // A crash in this time leaves nothing of the batch.
            simulation::commit().await;
            let committed = self.committer.commit(std::mem::replace(&mut batch, next));
            if let Some(waiting) = stop {
                return Some(self.stop(waiting));
            }
            if committed.ok()? {
                patience = TRIM_NEXT_PIECE;
            }
        }
    }

    fn stop(&mut self, waiting: oneshot::Sender<()>) -> Waiting {
        self.inbox.close();
        let mut all = vec![waiting];
        while let Some(more) = self.refuse_all(Refusal::Stopping) {
            all.extend(more);
        }
        all
    }

    /// Refuses what waits, up to whoever stops it.
    fn refuse_all(&mut self, refusal: Refusal) -> Option<Waiting> {
        loop {
            match self.inbox.try_recv() {
                Ok(Message::Input(envelope)) => refuse(envelope, refusal),
                Ok(Message::Clock(_)) => {}
                Ok(Message::Stop(waiting)) => return Some(vec![waiting]),
                Err(_) => return None,
            }
        }
    }
}

//! The handle of a coordinator.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Envelope, Message, Refusal};
use crate::machine::Machine;
use crate::metrics::Meters;

/// Sends inputs to a coordinator, which ends when it is stopped or when the last handle is dropped.
pub struct Handle<M: Machine> {
    sender: mpsc::Sender<Message<M>>,
    meters: Arc<Meters>,
}

/// An input that was not sent, given back.
#[derive(Debug)]
pub enum NotSent<I> {
    /// The queue is full.
    Full(I),
    /// The service is stopping.
    Stopping(I),
}

impl<M: Machine> Handle<M> {
    pub(super) fn new(sender: mpsc::Sender<Message<M>>, meters: Arc<Meters>) -> Self {
        Self { sender, meters }
    }

    /// Sends an input, waiting for room, and waits for the answer. Dropping the future does not take the input
    /// back.
    ///
    /// # Errors
    /// [`Refusal`]: with `StoreUnavailable` it is unknown whether the input took effect.
    pub async fn call(&self, input: M::Input) -> Result<Answer<M::Reply>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.pass(input, Some(answer)).await?;
        // Dropped without an answer: the coordinator is gone.
        answered.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Sends an input, waiting for room.
    ///
    /// # Errors
    /// [`Refusal::Stopping`].
    pub async fn send(&self, input: M::Input) -> Result<(), Refusal> {
        self.pass(input, None).await
    }

    /// Sends an input if there is room.
    ///
    /// # Errors
    /// [`NotSent`], with the input.
    pub fn try_send(&self, input: M::Input) -> Result<(), NotSent<M::Input>> {
        self.sender
            .try_send(self.envelope(input, None))
            .map_err(|error| match error {
                TrySendError::Full(message) => NotSent::Full(input_of(message)),
                TrySendError::Closed(message) => NotSent::Stopping(input_of(message)),
            })
    }

    /// Has the clock recorded, if that is due.
    ///
    /// # Errors
    /// [`Refusal`]: with `StoreUnavailable` it is unknown whether it was.
    pub(crate) async fn keep_clock(&self) -> Result<(), Refusal> {
        let (noted, wait) = oneshot::channel();
        let sent = self.sender.send(Message::Clock(noted)).await;
        sent.map_err(|_| Refusal::Stopping)?;
        // Dropped without an answer: not committed, as far as is known.
        wait.await.map_err(|_| Refusal::StoreUnavailable)
    }

    /// Makes the coordinator finish what was sent before, refuse the rest, and release its store; waits for that.
    pub async fn stop(&self) {
        let (stopped, wait) = oneshot::channel();
        if self.sender.send(Message::Stop(stopped)).await.is_ok() {
            // Its sender is dropped at the very end; nothing is ever sent.
            let _ = wait.await;
        }
    }

    /// Waits until the coordinator has ended: because it was stopped, or because it panicked.
    pub async fn ended(&self) {
        self.sender.closed().await;
    }

    fn envelope(
        &self,
        input: M::Input,
        answer: Option<oneshot::Sender<Result<Answer<M::Reply>, Refusal>>>,
    ) -> Message<M> {
        let sent = self.meters.now();
        Message::Input(Envelope { input, sent, answer })
    }

    async fn pass(
        &self,
        input: M::Input,
        answer: Option<oneshot::Sender<Result<Answer<M::Reply>, Refusal>>>,
    ) -> Result<(), Refusal> {
        let message = self.envelope(input, answer);
        self.sender.send(message).await.map_err(|_| Refusal::Stopping)
    }
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self::new(self.sender.clone(), Arc::clone(&self.meters))
    }
}

impl<M: Machine> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

fn input_of<M: Machine>(message: Message<M>) -> M::Input {
    match message {
        Message::Input(envelope) => envelope.input,
        Message::Clock(_) | Message::Stop(_) => {
            unreachable!("a handle gets back what it sent, and that was an input")
        }
    }
}

//! The only owner of a [`Machine`]: it takes all waiting inputs, steps each, commits them together, publishes,
//! answers, and has the effects performed, in this order. While a batch is being synced, the next one gathers; during
//! a large commit, the machine already steps with new inputs, one batch ahead of what anybody can see.

mod batch;
mod committer;
mod handle;
mod retention;
mod worker;

use std::io;
use std::sync::Arc;

use common::revision::Token;
use common::words::Words;
use store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use self::handle::{Handle, NotSent};
pub use self::retention::Retention;
use self::worker::Worker;
use crate::ages::Ages;
use crate::log::Log;
use crate::machine::Machine;
use crate::threads;

/// The maximum number of waiting inputs: a few batches. They suffice to fill the next batch when the disk is the
/// bottleneck, and are few enough that a caller waits for room rather than for an answer after its deadline.
const QUEUE: usize = 4_096;

/// Why an input got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store failed: whether the input took effect is unknown.
    #[error("the store cannot be written now")]
    StoreUnavailable,
    /// The same, because the data directory is gone or was replaced; the words say what to do.
    #[error("{0}")]
    StoreLost(Words),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl Refusal {
    /// Why nothing can be committed now.
    fn unavailable(store: &dyn Store) -> Self {
        match store.trouble() {
            Ok(()) => Self::StoreUnavailable,
            Err(error) => Self::StoreLost(error.to_string().into()),
        }
    }
}

/// The answer to an input, given after the commit.
#[derive(Debug)]
pub struct Answer<R> {
    /// The machine's reply.
    pub reply: R,
    /// Every read and watch after this point sees the changes of the input.
    pub token: Token,
}

/// Performs effects in order, one after the other, each after its commit. Must not block, so it hands the effects on.
/// It may spawn tasks if the coordinator was spawned within a tokio runtime.
pub trait Perform<E>: Send + 'static {
    /// Performs one effect, whose change is durable.
    fn perform(&mut self, effect: E);

    /// Shows the part of an effect that is read from memory, before anybody is told about the change, so that nobody
    /// who was told sees the earlier state. The effect is performed later.
    fn show(&mut self, _effect: &E) {}
}

impl<E, F: FnMut(E) + Send + 'static> Perform<E> for F {
    fn perform(&mut self, effect: E) {
        self(effect);
    }
}

/// The options of a coordinator.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the coordinator's thread; the kernel keeps 15 characters.
    pub name: String,
    /// How much of the history is kept.
    pub retention: Retention,
    /// The clock of ages.
    pub ages: Ages,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "coordinator".to_owned(),
            retention: Retention::default(),
            ages: Ages::begin(Retention::default().max_age),
        }
    }
}

/// An input on its way to the coordinator.
pub(crate) struct Envelope<M: Machine> {
    pub(crate) input: M::Input,
    /// When the input was sent, if that is measured.
    pub(crate) sent: Option<Instant>,
    pub(crate) answer: Option<oneshot::Sender<Result<Answer<M::Reply>, Refusal>>>,
}

/// A message to the coordinator.
pub(crate) enum Message<M: Machine> {
    Input(Envelope<M>),
    /// Record the clock; the machine has no part in this.
    Clock(oneshot::Sender<()>),
    /// Stop after the work on all earlier messages. The sender is dropped when everything is released.
    Stop(oneshot::Sender<()>),
}

/// Loads a machine and starts its coordinator, with the default [`Options`].
///
/// # Errors
/// [`StoreError`] if the machine cannot be loaded.
pub fn spawn<M: Machine>(
    store: Arc<dyn Store>,
    seed: M::Seed,
    log: Arc<Log<M::History>>,
    perform: impl Perform<M::Effect>,
) -> Result<Handle<M>, StoreError> {
    spawn_with(store, seed, log, perform, Options::default())
}

/// Loads a machine and starts its coordinator, on a thread of its own because the coordinator blocks on the disk.
/// [`Machine::recover`] is the machine's first input. A simulation runs the same loop as a task.
///
/// # Errors
/// [`StoreError`] if the machine cannot be loaded.
pub fn spawn_with<M: Machine>(
    store: Arc<dyn Store>,
    seed: M::Seed,
    log: Arc<Log<M::History>>,
    perform: impl Perform<M::Effect>,
    options: Options,
) -> Result<Handle<M>, StoreError> {
    let cannot =
        |error: io::Error| StoreError::Unavailable(format!("no thread for the coordinator: {error}"));
    let (sender, inbox) = mpsc::channel(QUEUE);
    let meters = Arc::clone(log.meters());
    let waiting = sender.downgrade();
    meters.set_waiting(move || {
        let sender = waiting.upgrade();
        sender.map_or(0, |sender| sender.max_capacity() - sender.capacity())
    });
    let name = options.name.clone();
    let worker = Worker::new(store, seed, log, perform, options, inbox).map_err(cannot)?;
    let machine = worker.load()?;
    let run = async move {
        let stopped = worker.run(machine).await;
        // The store and the log are released: whoever stopped the coordinator may open the store again.
        drop(stopped);
    };
    threads::dedicate(name, run).map_err(cannot)?;
    Ok(Handle::new(sender, meters))
}

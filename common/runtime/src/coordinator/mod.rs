//! The one owner of a [`Machine`]: takes all inputs that wait, steps each, commits them at once, publishes,
//! answers, and has the effects performed, in this order. While a batch is being synced the next one gathers; while
//! a large one is, the machine steps with what comes already, one batch ahead of what anybody can see.

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

/// Inputs that may wait. A few batches: enough that the next batch is full when the disk is the bottleneck,
/// and few enough that a caller waits for room rather than for an answer that comes after its deadline.
const QUEUE: usize = 4_096;

/// Why an input got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store failed: whether the input took effect is unknown.
    #[error("the store cannot be written now")]
    StoreUnavailable,
    /// The same, because the data directory is gone, or another one: in words that say what to do.
    #[error("{0}")]
    StoreLost(Words),
    /// The service stops.
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
    /// The machine's.
    pub reply: R,
    /// Every read and watch after this point sees what the input changed.
    pub token: Token,
}

/// Performs effects, one after the other and in order, each after its commit. Must not block: it hands them on. It may spawn
/// tasks where the coordinator was spawned within a tokio runtime.
pub trait Perform<E>: Send + 'static {
    /// One effect, whose change is durable.
    fn perform(&mut self, effect: E);

    /// Shows what of it is read from memory: before anybody is told of the change, so that nobody who was told sees
    /// what was before. It is performed later.
    fn show(&mut self, _effect: &E) {}
}

impl<E, F: FnMut(E) + Send + 'static> Perform<E> for F {
    fn perform(&mut self, effect: E) {
        self(effect);
    }
}

/// How a coordinator is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of its thread; the kernel keeps 15 characters of it.
    pub name: String,
    /// How much of the history is kept.
    pub retention: Retention,
    /// By which clock.
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

/// An input on its way.
pub(crate) struct Envelope<M: Machine> {
    pub(crate) input: M::Input,
    /// When it was sent, where that is measured.
    pub(crate) sent: Option<Instant>,
    pub(crate) answer: Option<oneshot::Sender<Result<Answer<M::Reply>, Refusal>>>,
}

/// What comes to a coordinator.
pub(crate) enum Message<M: Machine> {
    Input(Envelope<M>),
    /// It is to be recorded how the clock went: the machine has no part in that.
    Clock(oneshot::Sender<()>),
    /// All before it is still worked on. Dropped when everything is let go of.
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

/// Loads a machine and starts its coordinator, on a thread of its own: it blocks on the disk. The machine's
/// [`Machine::recover`] is its first input. A simulation runs the same loop, as a task.
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
        // The store and the log are let go of: whoever stopped it may open the store again.
        drop(stopped);
    };
    threads::dedicate(name, run).map_err(cannot)?;
    Ok(Handle::new(sender, meters))
}

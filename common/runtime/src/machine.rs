//! The core of a service, as its coordinator sees it.

use common::time::Timestamp;
use store::{Reader, StoreError, Write};

/// A synchronous state machine whose every change is recorded before anybody hears of it.
///
/// It does nothing itself: no IO, no clock, no randomness. The coordinator gives it inputs and the time, makes
/// what it returns durable, and only then publishes it, answers, and has the effects performed. When a commit
/// fails the whole machine is dropped and loaded again, so it may change its state freely in [`Machine::step`].
pub trait Machine: Sized + Send + 'static {
    /// An input.
    type Input: Send + 'static;
    /// The reply to the sender of an input.
    type Reply: Send + 'static;
    /// An effect, to be performed once the change behind it is durable.
    type Effect: Send + 'static;
    /// What watchers see of a revision.
    type History: prost::Message + Default + Send + Sync + 'static;
    /// What it needs at each load besides the records.
    type Seed: Clone + Send + 'static;

    /// The working state, from the committed records.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn load(reader: &dyn Reader, seed: &Self::Seed) -> Result<Self, StoreError>;

    /// The first input after each load: decides what a restart must decide.
    fn recover(&self) -> Option<Self::Input>;

    /// Takes one input.
    fn step(&mut self, input: Self::Input, now: Timestamp) -> Step<Self>;

    /// What is to be shown of its working state to who measures it, once that is durable: called once a batch, when
    /// that is whole.
    fn shown(&mut self) -> Option<Shown> {
        None
    }

    /// A name for the input, for logs and fail points: its kind, without ids.
    fn label(input: &Self::Input) -> String;
}

/// Shows something. It must not block.
pub type Shown = Box<dyn FnOnce() + Send>;

/// The outcome of one input.
#[derive(Debug)]
pub struct Step<M: Machine> {
    /// Mostly one or none; a change too large for one revision takes several.
    pub revisions: Vec<Change<M::History>>,
    /// Performed in order, once all of `revisions` are durable.
    pub effects: Vec<M::Effect>,
    /// For the one who sent the input.
    pub reply: M::Reply,
}

/// A revision to be committed.
#[derive(Debug)]
pub struct Change<H> {
    /// What watchers will see.
    pub history: H,
    /// The records that change.
    pub writes: Vec<Write>,
}

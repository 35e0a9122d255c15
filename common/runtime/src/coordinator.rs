//! The one owner of a [`Machine`]: takes all inputs that wait, steps each, commits them at once, publishes,
//! answers, and has the effects performed, in this order. While a batch is being synced the next one gathers.

use common::revision::Token;
use tokio::sync::oneshot;

use crate::machine::Machine;

/// Why an input got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store failed: whether the input took effect is unknown.
    #[error("the store cannot be written now")]
    StoreUnavailable,
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
}

/// The answer to an input, given after the commit.
#[derive(Debug)]
pub struct Answer<R> {
    /// The machine's.
    pub reply: R,
    /// Every read and watch after this point sees what the input changed.
    pub token: Token,
}

/// Performs effects. Must not block: it hands them on.
pub trait Perform<E>: Send + 'static {
    /// One effect, whose change is durable.
    fn perform(&mut self, effect: E);
}

/// An input on its way.
pub(crate) struct Envelope<M: Machine> {
    pub(crate) input: M::Input,
    pub(crate) answer: Option<oneshot::Sender<Result<Answer<M::Reply>, Refusal>>>,
}

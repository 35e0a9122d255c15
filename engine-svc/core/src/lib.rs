//! The core of the engine: decides what becomes of a request, without IO, clock, threads or randomness.
//!
//! The shell gives [`State::step`] one input and the time; it answers with the records that change, the effects
//! to perform once those are durable, and the reply. The same inputs at the same times give the same outputs.
//! Every decision is taken from recorded state alone, so a restart decides as if nothing had happened.
//!
//! ```text
//! input ─► step/ ─► changes ─► State::apply (the only mutator, live and at load)
//!            │        └─► durable ─► published ─► answered ─► effects performed
//!            └─ asks plan/<verb>: what now? (a function of the state)
//! ```

mod catalogue;
pub mod change;
pub mod effect;
pub mod input;
pub mod jobs;
pub mod model;
pub mod plan;
pub mod state;
mod step;
pub mod stopping;
#[cfg(test)]
mod testing;
mod when;

pub use change::Change;
pub use effect::Effect;
pub use input::Input;
pub use model::HostCall;
pub use state::{Limits, Stance, State};
pub use step::{Reply, Transition, not_to_be_asked, put_back};

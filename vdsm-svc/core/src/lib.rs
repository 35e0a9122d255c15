//! The host's mind: admission, queueing, the life of each task, whose host it is, and what a restart must do.
//!
//! [`State::step`] takes one [`Input`] and returns a [`Transition`]: what must be recorded, what is to be done
//! once it is recorded, and the answer. Nothing here does anything: no IO, no clock, no randomness, no threads.
//!
//! In memory are the *unfinished* tasks only, so memory is bounded by the queue's bound. What the store knows
//! of an id that is not among them comes in with the input, as [`Known`]; `recent.rs` says why that is safe.
//!
//! - `task.rs`, `owner.rs`: what is recorded · `input.rs`, `change.rs`: what comes in and what goes out
//! - `lock.rs`: who may work on what · `run_queue.rs`: who may run now · `state.rs`: the state, and its one mutator
//! - `step/`: one family of inputs a file

mod change;
mod input;
mod lock;
mod owner;
mod recent;
mod run_queue;
mod state;
mod step;
mod task;

pub use change::{Answer, Change, Effect, Refusal, Reply, Transition};
pub use input::{Caller, Claim, EngineCall, Input, Known, Report, Start, TakeOver};
pub use lock::{CallId, Key, keys};
pub use owner::{Owner, TakenOver, may_follow};
pub use run_queue::Limits;
pub use state::{Loaded, State};
pub use task::{Ordinal, Task};

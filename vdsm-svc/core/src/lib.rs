//! The core of the host: admission, queueing, the states of each task, the owner of the host, and what a restart must
//! do.
//!
//! [`State::step`] takes one [`Input`] and returns a [`Transition`]: what must be recorded, what is to be done
//! once it is recorded, and the answer. Nothing here does anything: no IO, no clock, no randomness, no threads.
//!
//! Only *unfinished* tasks are in memory, so memory is bounded by the queue's bound. For other ids the input has the
//! store's record, as [`Known`]; `recent.rs` explains why that is safe.
//!
//! - `task.rs`, `owner/`: what is recorded · `input.rs`, `change.rs`: what comes in and what goes out
//! - `lock.rs`: locks · `run_queue.rs`: which tasks run · `state.rs`: the state, and its one mutator
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
#[cfg(test)]
mod testing;

pub use change::{Answer, Change, Effect, Refusal, Reply, Transition};
pub use input::{Caller, Claim, EngineCall, Input, Known, Report, Start, TakeOver};
pub use lock::{CallId, Key};
pub use owner::{Owner, TakenOver, may_follow};
pub use run_queue::Limits;
pub use state::{Loaded, State};
pub use task::{Ordinal, Task};

//! The engine's service: the shell around `engine-core`.
//!
//! ```text
//! grpc/ ──input──► coordinator (machine/ drives the core) ──► store/ ──► log ──► grpc/feed/
//!                        │  once durable
//!                        └──effects──► host/: one follower a host ──► the host
//!                              ▲                      │
//!                              └───────input──────────┘
//! ```
//!
//! Nothing here decides: the core says what follows from an input, `store/` how it is kept, and `grpc/` how it is
//! shown.

mod expiry;
mod grpc;
mod holders;
pub mod host;
pub mod life;
mod lock_waits;
pub mod machine;
pub mod metrics;
mod open_tasks;
pub mod pki;
pub mod pulse;
mod service;
mod settings;
mod stance;
pub mod store;
#[cfg(test)]
mod testing;
mod verbs;

pub use service::{OWNER, RunError, Ways, check_config, serve, serve_on, serve_over};
pub use settings::{PREFIX, Settings};

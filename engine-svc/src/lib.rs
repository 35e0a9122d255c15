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
//! Nothing here decides: what follows from an input is the core's, how it is kept is `store/`'s, and how it looks
//! is `grpc/`'s.

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

//! What the runtime promises, over a small machine and real stores.

// What helps a test may fail as a test does.
#![allow(clippy::unwrap_used)]

mod clock;
mod coordinator;
mod held;
mod kill;
mod server;
mod support;
mod tls;
mod trim;
mod watch;
mod watch_random;

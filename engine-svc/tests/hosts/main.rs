//! The engine's followers against a host that is wrong on purpose: every edge arrives, once and in order.

// A test fails by a panic.
#![allow(clippy::unwrap_used)]

mod double;
mod identity;
mod progress;
mod starts;
mod stream;
mod world;

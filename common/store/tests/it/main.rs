//! What the stores promise.

// What helps a test may fail as a test does.
#![allow(clippy::unwrap_used)]

mod families;
mod lost;
mod store;

use ::store::disk::Owner;

/// Whose the stores of these tests are.
const OWNER: Owner = Owner::service("test-svc");

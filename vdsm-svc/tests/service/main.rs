//! The service over real gRPC, in this process: one promise a test.

// A test fails by a panic.
#![allow(clippy::unwrap_used)]

mod copying;
mod harness;
mod owners;
mod storage;
mod tasks;
mod watching;

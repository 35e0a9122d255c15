//! What the contract promises beyond what its compiler checks, told from the descriptors.

// A test fails by a panic.
#![allow(clippy::unwrap_used)]

mod access;
mod breaking;
mod codes;
mod descriptors;
mod facts;
mod lint;
mod lists;

//! Stores for tests, which keep every promise of [`store::Store`] but that they outlive the process.

pub mod failing;
pub mod memory;

//! The service over real gRPC, in this process: one promise a test.

mod harness;
mod owners;
mod storage;
mod tasks;
mod watching;

//! The harness of the tests over whole services: it starts the real programs, speaks to them over real gRPC as
//! any client would, kills them, cuts their connections, and checks from outside what they promised.
//!
//! Nothing here reaches into a service: all that is known of them comes over the wire, from the exit of their
//! processes, and from the files that they leave on storage.

pub mod audit;
pub mod bind_mount;
pub mod client;
pub mod fail_point;
pub mod failure;
pub mod gate;
pub mod ids;
pub mod lone_host;
pub mod loop_mount;
pub mod metrics;
pub mod neighbour;
pub mod patience;
pub mod programs;
pub mod proxy;
pub mod readme;
pub mod requests;
pub mod service;
pub mod small_disk;
pub mod storage;
pub mod tls;
mod verbs;
pub mod watch;
pub mod words;
pub mod world;

pub use failure::{Context, Failure, TestResult};
pub use world::World;

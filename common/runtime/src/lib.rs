//! What the shells of both services share.
//!
//! A service is a [`machine::Machine`] (its mind: synchronous, without IO) driven by a
//! [`coordinator`] (its one owner), over a [`store::Store`] (its memory), with a [`log::Log`] of
//! what was committed, from which [`watch`] serves every Watch RPC.

pub mod ages;
pub mod audit;
pub mod backup;
pub mod causes;
pub mod chance;
pub mod client;
pub mod clock;
pub mod coordinator;
pub mod failpoint;
pub mod filter;
pub mod log;
pub mod machine;
pub mod memory;
pub mod metadata;
pub mod metrics;
pub mod offline;
pub mod page;
pub mod program;
pub mod reads;
pub mod server;
pub mod settings;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod threads;
pub mod tls;
pub mod watch;

//! What the shells of both services share.
//!
//! A service is a [`machine::Machine`] (its mind: synchronous, without IO) driven by a
//! [`coordinator`] (its one owner), over a [`store::Store`] (its memory), with a [`log::Log`] of
//! what was committed, from which [`watch`] serves every Watch RPC.

pub mod coordinator;
pub mod log;
pub mod machine;
pub mod store;
pub mod watch;

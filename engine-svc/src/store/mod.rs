//! The engine's records, one file a table, whose doc gives the key and the value. Nothing else knows the form of a
//! record on disk.

pub(crate) mod codec;
pub(crate) mod command;
pub(crate) mod disk;
pub(crate) mod domain;
pub mod engine;
pub(crate) mod entities;
pub(crate) mod event;
pub(crate) mod family;
pub(crate) mod host;
pub(crate) mod job;
mod key;
pub(crate) mod keyed;
pub(crate) mod ledger;
pub(crate) mod live;
pub(crate) mod load;
pub(crate) mod read;
#[cfg(test)]
mod round_trip;
pub(crate) mod scan;
pub(crate) mod task;
pub(crate) mod tree;
pub(crate) mod vm;
pub(crate) mod writes;

use std::sync::Arc;

use proto::store::v1::EngineHistory;

/// The engine's commits, in order.
pub type Log = Arc<runtime::log::Log<EngineHistory>>;

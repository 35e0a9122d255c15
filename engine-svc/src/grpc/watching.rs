//! The code that all Watch RPCs share.

use common::time::Timestamp;
use proto::task::v1::WatchStart;
use runtime::watch::{Terms, WatchOptions};
use runtime::{clock, status};
use tonic::Status;

/// Reads the fields that all Watch requests share.
pub(super) fn options(
    terms: Terms,
    start: Option<&WatchStart>,
    ended_within: Option<&prost_types::Duration>,
    heartbeat_interval: Option<&prost_types::Duration>,
    include_progress: bool,
) -> Result<WatchOptions, Status> {
    WatchOptions::read(start, ended_within, heartbeat_interval, include_progress, terms)
        .map_err(|fault| status::from_fault(&fault))
}

/// The time from which on a snapshot shows items that have ended.
pub(super) fn since(options: &WatchOptions) -> Timestamp {
    let seconds = i64::try_from(options.ended_within().as_secs()).unwrap_or(i64::MAX);
    clock::now().plus_seconds(seconds.saturating_neg())
}

//! How a revision lies in the history: its start and its time, 8 bytes each, big-endian, then its bytes.

use common::revision::{Revision, Start};
use common::time::Timestamp;

use super::{Commit, Recorded, StoreError};

/// Writes a revision's value into `value`, replacing what was there.
pub(super) fn encode(start: Start, commit: &Commit, value: &mut Vec<u8>) {
    value.clear();
    value.extend_from_slice(&start.0.to_be_bytes());
    value.extend_from_slice(&commit.time.0.to_be_bytes());
    value.extend_from_slice(&commit.history);
}

/// Reads it back.
///
/// # Errors
/// [`StoreError::Damaged`] if it is too short.
pub(super) fn decode(revision: Revision, value: &[u8]) -> Result<Recorded, StoreError> {
    let damaged = || StoreError::Damaged(format!("revision {} is cut short", revision.0));
    let (start, rest) = value.split_first_chunk().ok_or_else(damaged)?;
    let (time, history) = rest.split_first_chunk().ok_or_else(damaged)?;
    Ok(Recorded {
        revision,
        start: Start(u64::from_be_bytes(*start)),
        time: Timestamp(i64::from_be_bytes(*time)),
        history: history.to_vec(),
    })
}

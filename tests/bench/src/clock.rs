//! The time of day, by which the services stamp what they commit. All processes of a run are on one machine.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// The present time.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Microseconds from `time` to now; 0 if the clock was set back meanwhile.
pub(crate) fn micros_since(time: &Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = time.seconds as f64 * 1e6 + f64::from(time.nanos) / 1e3;
    (now.as_secs_f64() * 1e6 - then).max(0.0)
}

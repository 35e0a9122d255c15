//! The wall clock, for times that people read.

use std::time::{SystemTime, UNIX_EPOCH};

use common::time::Timestamp;

use crate::failpoint;

/// The present time.
pub fn now() -> Timestamp {
    #[cfg(feature = "simulation")]
    if let Some(world) = crate::simulation::world() {
        return world.now();
    }
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    };
    Timestamp(micros).plus_seconds(failpoint::clock_off())
}

//! The wall clock, for times that people read, and the machine's own, which never jumps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

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

/// The time since the machine was started, with that for which it was suspended. In a simulation no process stands still,
/// and this does not go on.
pub fn since_boot() -> Duration {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return Duration::ZERO;
    }
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

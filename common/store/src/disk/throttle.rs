//! How the checkpointer keeps out of the way: nobody waits for it, and those who do wait need the same processors and
//! the same disk. So it works for a moment and rests for longer; somebody who has to wait for it puts it in a hurry.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Work that is done in one go: about as long as one durable write.
const STRETCH: Duration = Duration::from_micros(300);

/// A rest is so many times as long as the work before it. Two leave it a third of the time, of which it has seconds.
const REST: u32 = 2;

/// No rest is longer: what took long was waiting already.
const LONGEST_REST: Duration = Duration::from_millis(5);

/// Of one store.
#[derive(Debug)]
pub(super) struct Throttle {
    hurry: AtomicBool,
    /// When the last rest was over. Of the checkpointer's thread alone.
    since: Mutex<Instant>,
}

impl Throttle {
    /// In a hurry.
    pub(super) fn new() -> Self {
        Self {
            hurry: AtomicBool::new(true),
            since: Mutex::new(Instant::now()),
        }
    }

    /// Somebody waits.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// Nobody waits.
    pub(super) fn ease(&self) {
        self.hurry.store(false, Ordering::Relaxed);
        *self.since() = Instant::now();
    }

    /// Whether somebody waits.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }

    /// Rests if there is time for it and enough has been done.
    pub(super) fn rest(&self) {
        if self.is_hurried() {
            return;
        }
        let work = self.since().elapsed();
        if let Some(time) = rest_after(work) {
            // Without the lock: nobody waits for a rest.
            std::thread::sleep(time);
            *self.since() = Instant::now();
        }
    }

    fn since(&self) -> MutexGuard<'_, Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to rest after so much work; not at all after too little.
fn rest_after(work: Duration) -> Option<Duration> {
    (work >= STRETCH).then(|| (work * REST).min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_longer_than_the_work_before_it_and_bounded() {
        let micros = Duration::from_micros;
        assert_eq!(rest_after(micros(299)), None);
        assert_eq!(rest_after(micros(300)), Some(micros(600)));
        assert_eq!(rest_after(micros(1_000)), Some(micros(2_000)));
        assert_eq!(rest_after(Duration::from_secs(1)), Some(LONGEST_REST));
    }

    #[test]
    fn a_hurry_lasts_until_there_is_time_again() {
        let throttle = Throttle::new();
        assert!(throttle.is_hurried());
        throttle.ease();
        assert!(!throttle.is_hurried());
        throttle.hurry();
        assert!(throttle.is_hurried());
    }
}

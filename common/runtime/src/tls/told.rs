//! A bound on log lines that strangers cause: a burst is logged in full, of a flood only the number.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The number of lines in a burst: enough for a person who tries each port while setting things up.
const BURST: u32 = 20;

/// One more line is allowed after each such time: at most 14,400 lines a day.
const EVERY: Duration = Duration::from_secs(6);

/// The bound.
#[derive(Debug)]
pub(crate) struct Told(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
    kept_quiet: u64,
}

impl Default for Told {
    fn default() -> Self {
        Self(Mutex::new(Bucket {
            left: BURST,
            since: Instant::now(),
            kept_quiet: 0,
        }))
    }
}

impl Told {
    /// Whether one more line may be logged; if so, how many were suppressed since the last one.
    pub(crate) fn may_say(&self) -> Option<u64> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while bucket.left < BURST && now.duration_since(bucket.since) >= EVERY {
            bucket.left += 1;
            bucket.since += EVERY;
        }
        if bucket.left == 0 {
            bucket.kept_quiet += 1;
            return None;
        }
        if bucket.left == BURST {
            bucket.since = now;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.kept_quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_and_a_flood_is_counted() {
        let told = Told::default();
        for _ in 0..BURST {
            assert_eq!(told.may_say(), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(told.may_say(), None);
        }
        tokio::time::advance(EVERY).await;
        assert_eq!(told.may_say(), Some(7));
        assert_eq!(told.may_say(), None);
        tokio::time::advance(EVERY * 1_000).await;
        assert_eq!(told.may_say(), Some(1));
        assert_eq!((1..BURST).filter_map(|_| told.may_say()).sum::<u64>(), 0);
        assert_eq!(
            told.may_say(),
            None,
            "no more than a burst, however long it was quiet"
        );
    }
}

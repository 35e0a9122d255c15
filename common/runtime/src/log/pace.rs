//! A smoothed rate, and the remaining time. The caller provides the clock.

use std::time::{Duration, Instant};

/// Observations that are closer together count as one: over a shorter time a rate is noise.
const LEAST: Duration = Duration::from_millis(500);

/// Older observations count for little.
const MEMORY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    at: Instant,
    done_bytes: u64,
    /// Bytes per second; none before the second observation.
    rate: Option<f64>,
}

impl Pace {
    /// The first observation.
    pub(super) const fn begin(done_bytes: u64, now: Instant) -> Self {
        Self {
            at: now,
            done_bytes,
            rate: None,
        }
    }

    /// Another observation. If it is less than before, the work has started again.
    pub(super) fn after(self, done_bytes: u64, now: Instant) -> Self {
        let Some(moved) = done_bytes.checked_sub(self.done_bytes) else {
            return Self::begin(done_bytes, now);
        };
        let time = now.saturating_duration_since(self.at);
        if time < LEAST {
            return self;
        }
        let rate = moved as f64 / time.as_secs_f64();
        let weight = 1.0 - (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        Self {
            at: now,
            done_bytes,
            rate: Some(self.rate.map_or(rate, |old| old + weight * (rate - old))),
        }
    }

    /// Bytes per second; 0 while it is unknown.
    pub(super) fn rate_bytes_per_second(self) -> u64 {
        // A float is cut to what fits.
        self.rate.unwrap_or_default() as u64
    }

    /// The time for this many more bytes; none while it is unknown.
    pub(super) fn time_for(self, left_bytes: u64) -> Option<Duration> {
        if left_bytes == 0 {
            return Some(Duration::ZERO);
        }
        let rate = self.rate.filter(|rate| *rate >= 1.0)?;
        Duration::try_from_secs_f64(left_bytes as f64 / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at something that does so many bytes in each of `looks` seconds.
    fn run(mut pace: Pace, start: Instant, looks: std::ops::RangeInclusive<u64>, per_second: u64) -> Pace {
        let begun = *looks.start() - 1;
        let first = pace.done_bytes;
        for n in looks {
            pace = pace.after(first + per_second * (n - begun), start + Duration::from_secs(n));
        }
        pace
    }

    #[test]
    fn nothing_is_known_at_first_and_a_steady_rate_soon() {
        let start = Instant::now();
        let pace = Pace::begin(0, start);
        assert_eq!((pace.rate_bytes_per_second(), pace.time_for(1)), (0, None));
        let early = pace.after(1_000_000, start + Duration::from_millis(100));
        assert_eq!(early, pace, "too early to tell");
        let pace = run(pace, start, 1..=1, 1000);
        assert_eq!(pace.rate_bytes_per_second(), 1000);
        assert_eq!(pace.time_for(5000), Some(Duration::from_secs(5)));
        assert_eq!(pace.time_for(0), Some(Duration::ZERO));
    }

    #[test]
    fn a_change_is_smoothed_and_then_believed() {
        let start = Instant::now();
        let fast = run(Pace::begin(0, start), start, 1..=20, 1000);
        let soon = run(fast, start, 21..=22, 0).rate_bytes_per_second();
        assert!((700..1000).contains(&soon), "{soon}");
        let later = run(fast, start, 21..=90, 0);
        assert!(later.rate_bytes_per_second() < 2);
        let stands = run(fast, start, 21..=200, 0);
        assert_eq!(stands.time_for(1), None, "at this rate it never ends");
    }

    #[test]
    fn what_goes_back_has_begun_anew() {
        let start = Instant::now();
        let pace = run(Pace::begin(0, start), start, 1..=3, 1000);
        let anew = pace.after(10, start + Duration::from_secs(4));
        assert_eq!(anew, Pace::begin(10, start + Duration::from_secs(4)));
    }
}

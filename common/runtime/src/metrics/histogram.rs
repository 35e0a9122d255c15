//! Observations, counted by their size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For what takes from a fraction of a millisecond to half a minute.
pub const SHORT: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// For what takes from a tenth of a second to a day.
pub const LONG: &[f64] = &[
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// For how many there are of something.
pub const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Parts of a unit in which the sum is kept: an atomic number is a whole one.
const PARTS: f64 = 1e6;

/// See the module. To observe is to add to two atomic numbers.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds.
    buckets: Box<[AtomicU64]>,
    /// In parts.
    sum: AtomicU64,
}

impl Histogram {
    /// Without observations. `bounds` rise.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Something was as large as this.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        // What is negative counts as nothing.
        self.sum
            .fetch_add((value * PARTS).round() as u64, Ordering::Relaxed);
    }

    /// Something took so long.
    pub fn took(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    pub(super) fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// How many there are in each bucket, and the sum.
    pub(super) fn read(&self) -> (Vec<u64>, f64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        (buckets.collect(), self.sum.load(Ordering::Relaxed) as f64 / PARTS)
    }
}

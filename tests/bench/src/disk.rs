//! What the disk is like just now, and when it counts as disturbed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ::tests::Outcome;

use crate::stats::median;

/// Enough for a median that one hiccup does not move; some 10 ms on an SSD.
const SYNCS: usize = 41;

/// What a database overwrites at a time.
const PAGE_BYTES: usize = 4096;

/// The probed file's pages: written once, so that a sync has no allocation to record.
const PAGES: u64 = 64;

/// The disk changed under a round if the medians before and after it differ by more than this factor.
const WITHIN_ROUND: f64 = 1.5;

/// A round was run on another disk than the others, so to speak, if its medians are this factor above the run's.
const WITHIN_RUN: f64 = 2.0;

/// The rule, in words for the report.
pub(crate) const RULE: &str =
    "fdatasync before and after the round differ by more than 1.5x, or one is above 2x the median of the run";

/// Measures fdatasync where the data directories lie.
#[derive(Debug)]
pub(crate) struct Probe {
    file: File,
    seen: Vec<f64>,
}

/// The median fdatasync before and after a round, in microseconds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Disk {
    pub(crate) before_micros: f64,
    pub(crate) after_micros: f64,
}

impl Probe {
    /// With a file of its own in `dir`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let file = File::create(dir.join("fdatasync.probe"))?;
        for page in 0..PAGES {
            file.write_all_at(&[0; PAGE_BYTES], page * PAGE_BYTES as u64)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            seen: Vec::new(),
        })
    }

    /// The median of some fdatasyncs, each after one page was overwritten, in microseconds.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn measure(&mut self) -> Outcome<f64> {
        let mut micros = Vec::with_capacity(SYNCS);
        for (page, fill) in (0..PAGES).cycle().zip(0..).take(SYNCS) {
            self.file
                .write_all_at(&[fill; PAGE_BYTES], page * PAGE_BYTES as u64)?;
            let start = Instant::now();
            self.file.sync_data()?;
            micros.push(in_micros(start.elapsed()));
        }
        let median = median(&micros);
        self.seen.push(median);
        Ok(median)
    }

    /// The median of all that was measured in this run, in microseconds.
    pub(crate) fn of_the_run(&self) -> f64 {
        median(&self.seen)
    }
}

impl Disk {
    /// Whether the round's figures say something about the disk instead of the services: see [`RULE`].
    pub(crate) fn is_disturbed(self, of_the_run: f64) -> bool {
        let (low, high) = (
            self.before_micros.min(self.after_micros),
            self.before_micros.max(self.after_micros),
        );
        high > low * WITHIN_ROUND || high > of_the_run * WITHIN_RUN
    }
}

/// A duration in microseconds.
pub(crate) fn in_micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disturbed(before_micros: f64, after_micros: f64) -> bool {
        Disk {
            before_micros,
            after_micros,
        }
        .is_disturbed(100.0)
    }

    #[test]
    fn a_round_is_disturbed_by_a_change_of_the_disk_or_by_another_disk_than_the_runs() {
        assert!(!disturbed(100.0, 140.0));
        assert!(disturbed(100.0, 160.0));
        assert!(disturbed(160.0, 100.0));
        assert!(disturbed(210.0, 205.0));
        assert!(!disturbed(60.0, 50.0));
    }
}

//! What the disk is like just now, and when it counts as disturbed.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use ::tests::TestResult;

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

/// A disk that does nothing for so long is at rest.
const REST: Duration = Duration::from_millis(150);

/// On a machine where others write all the time it never is.
const SETTLED_AT_LAST: Duration = Duration::from_secs(10);

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
    pub(crate) fn new(dir: &Path) -> TestResult<Self> {
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
    pub(crate) fn measure(&mut self) -> TestResult<f64> {
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

/// What a disk is at, as the kernel counts it.
#[derive(Debug, PartialEq, Eq)]
struct Activity {
    in_flight: u64,
    written: u64,
    discarded: u64,
}

impl Activity {
    /// Of the disk below a folder; none where there is no such disk.
    fn below(dir: &Path) -> Option<Self> {
        let device = std::fs::metadata(dir).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Self::parse(&std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?)
    }

    /// The fields are described in the kernel's `Documentation/block/stat.rst`.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.split_ascii_whitespace().map(str::parse);
        let mut field = |skip: usize| fields.nth(skip)?.ok();
        let (written, in_flight, discarded) = (field(6)?, field(1)?, field(4)?);
        Some(Self {
            in_flight,
            written,
            discarded,
        })
    }
}

/// Writes everything back, and waits until the disk below a folder is at rest. A file system may discard what was deleted
/// long after it was.
///
/// # Errors
/// Where it cannot be written back.
pub(crate) async fn settle(dir: &Path) -> TestResult<()> {
    rustix::fs::syncfs(File::open(dir)?).map_err(::tests::Failure::new)?;
    let end = Instant::now() + SETTLED_AT_LAST;
    let mut before = None;
    loop {
        tokio::time::sleep(REST).await;
        let now = Activity::below(dir);
        let at_rest = now.as_ref().is_none_or(|activity| activity.in_flight == 0) && now == before;
        if at_rest || Instant::now() > end {
            return Ok(());
        }
        before = now;
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

    #[test]
    fn what_a_disk_is_at_is_read_from_the_right_fields() {
        let stat = "  116442    10280 88007534   257171  2178459    67114 215109994  1667697        3   255140  1987250    19806       25 210764984    26722   493942    35659\n";
        let activity = Activity {
            in_flight: 3,
            written: 215_109_994,
            discarded: 210_764_984,
        };
        assert_eq!(Activity::parse(stat), Some(activity));
        assert_eq!(Activity::parse("1 2 3"), None);
    }
}

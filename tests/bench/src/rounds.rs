//! Rounds: ours and the bare parts by turns, the disk looked at before and after, and the processors meanwhile.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::{Context as _, TestResult};

use crate::disk::{Disk, Probe};
use crate::processors::Ticks;

/// What a run shares.
#[derive(Debug)]
pub(crate) struct Bench {
    /// How many rounds each measure takes.
    pub(crate) rounds: usize,
    /// The disk.
    pub(crate) probe: Probe,
    dir: TempDir,
    made: usize,
}

/// What one round gave.
#[derive(Debug)]
pub(crate) struct Round<S> {
    /// The figures.
    pub(crate) sample: S,
    /// The disk meanwhile.
    pub(crate) disk: Disk,
    /// The share of all processors that other programs took meanwhile.
    pub(crate) others: f64,
}

impl Bench {
    /// A run whose data lies in a folder of its own below `dir`, and is gone afterwards.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub(crate) fn new(dir: &Path, rounds: usize) -> TestResult<Self> {
        std::fs::create_dir_all(dir).context(dir.display())?;
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
        Ok(Self {
            rounds,
            probe: Probe::new(dir.path())?,
            dir,
            made: 0,
        })
    }

    /// A new folder, on the disk that is looked at.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn fresh_dir(&mut self, name: &str) -> TestResult<PathBuf> {
        self.made += 1;
        let dir = self.dir.path().join(format!("{:03}-{name}", self.made));
        std::fs::create_dir(&dir).context(dir.display())?;
        Ok(dir)
    }

    /// Waits until the disk has done what is left of what came before: written back, and discarded what was deleted.
    ///
    /// # Errors
    /// Where that cannot be asked for.
    pub(crate) async fn settle(&self) -> TestResult<()> {
        crate::disk::settle(self.dir.path()).await
    }

    /// Runs all rounds of a measure. Each is to measure ours and the bare parts, one after the other.
    ///
    /// # Errors
    /// The first failure of a round.
    pub(crate) async fn alternate<S>(
        &mut self,
        mut round: impl AsyncFnMut(&mut Bench, usize) -> TestResult<S>,
    ) -> TestResult<Vec<Round<S>>> {
        let mut done = Vec::with_capacity(self.rounds);
        for number in 0..self.rounds {
            let before_micros = self.probe.measure()?;
            let begin = Ticks::now()?;
            let sample = round(self, number).await?;
            let others = Ticks::now()?.taken_by_others(begin);
            let after_micros = self.probe.measure()?;
            let disk = Disk {
                before_micros,
                after_micros,
            };
            done.push(Round { sample, disk, others });
        }
        Ok(done)
    }
}

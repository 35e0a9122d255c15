//! A line of the report: figures of all rounds, and what is made of them.

use serde::Serialize;

use crate::disk::Disk;
use crate::processors;
use crate::rounds::Round;
use crate::stats::median;

/// Undisturbed rounds that a verdict needs: a median of fewer says little.
const ROUNDS_NEEDED: usize = 3;

/// In what a figure is.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Mebibytes,
}

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Of the ratio of ours to the bare parts.
    RatioAtLeast(f64),
    /// Of the same ratio, where less is better.
    RatioAtMost(f64),
    /// Of our own figure.
    AtMost(f64),
}

/// The figures of one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figure {
    pub(crate) ours: f64,
    /// None where there is nothing to compare with.
    pub(crate) bare: Option<f64>,
    pub(crate) disk: Disk,
    /// The share of all processors that other programs took.
    pub(crate) others: f64,
}

/// One measured thing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// None where the figure is only shown.
    pub(crate) target: Option<Target>,
    pub(crate) figures: Vec<Figure>,
    /// What a reader should know of it.
    pub(crate) note: String,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Short,
    /// Too few rounds were undisturbed.
    Inconclusive,
    /// There is no target.
    Shown,
}

/// Medians, and the verdict on them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Judged {
    pub(crate) ours: f64,
    pub(crate) bare: Option<f64>,
    /// The median of the rounds' ratios of ours to bare.
    pub(crate) ratio: Option<f64>,
    pub(crate) verdict: Verdict,
    pub(crate) disturbed_rounds: usize,
}

impl Row {
    /// A line from the rounds of a measure; `figures` picks ours and bare of a round's sample.
    pub(crate) fn new<S>(
        name: impl Into<String>,
        unit: Unit,
        target: Option<Target>,
        rounds: &[Round<S>],
        figures: impl Fn(&S) -> (f64, Option<f64>),
    ) -> Self {
        let figure = |round: &Round<S>| {
            let (ours, bare) = figures(&round.sample);
            let (disk, others) = (round.disk, round.others);
            Figure {
                ours,
                bare,
                disk,
                others,
            }
        };
        Self {
            name: name.into(),
            unit,
            target,
            figures: rounds.iter().map(figure).collect(),
            note: String::new(),
        }
    }

    /// The same line with a note.
    #[must_use]
    pub(crate) fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Judges by the undisturbed rounds; by all of them if `disturbed_too`.
    pub(crate) fn judge(&self, disk_of_the_run: f64, disturbed_too: bool) -> Judged {
        let disturbed = |figure: &&Figure| {
            figure.disk.is_disturbed(disk_of_the_run) || processors::is_disturbed(figure.others)
        };
        let disturbed_rounds = self.figures.iter().filter(disturbed).count();
        let quiet: Vec<&Figure> = self
            .figures
            .iter()
            .filter(|f| disturbed_too || !disturbed(f))
            .collect();
        let ours = median(&quiet.iter().map(|f| f.ours).collect::<Vec<_>>());
        let bares: Vec<f64> = quiet.iter().filter_map(|f| f.bare).collect();
        let ratios: Vec<f64> = quiet.iter().filter_map(|f| Some(f.ours / f.bare?)).collect();
        let ratio = (!ratios.is_empty()).then(|| median(&ratios));
        let needed = ROUNDS_NEEDED.min(self.figures.len());
        let verdict = if quiet.len() < needed {
            Verdict::Inconclusive
        } else {
            verdict(self.target, ours, ratio)
        };
        Judged {
            ours,
            bare: (!bares.is_empty()).then(|| median(&bares)),
            ratio,
            verdict,
            disturbed_rounds,
        }
    }
}

fn verdict(target: Option<Target>, ours: f64, ratio: Option<f64>) -> Verdict {
    let reached = match (target, ratio) {
        (None, _) => return Verdict::Shown,
        (Some(Target::AtMost(limit)), _) => ours <= limit,
        (Some(Target::RatioAtLeast(limit)), Some(ratio)) => ratio >= limit,
        (Some(Target::RatioAtMost(limit)), Some(ratio)) => ratio <= limit,
        (Some(Target::RatioAtLeast(_) | Target::RatioAtMost(_)), None) => return Verdict::Inconclusive,
    };
    if reached { Verdict::Ok } else { Verdict::Short }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Disk = Disk {
        before_micros: 100.0,
        after_micros: 100.0,
    };
    const DISTURBED: Disk = Disk {
        before_micros: 100.0,
        after_micros: 900.0,
    };

    fn judged(disks: &[Disk], others: f64, target: Target) -> Judged {
        let round = |&disk: &Disk| Round {
            sample: 8.0,
            disk,
            others,
        };
        let rounds: Vec<Round<f64>> = disks.iter().map(round).collect();
        Row::new("x", Unit::PerSecond, Some(target), &rounds, |ours| {
            (*ours, Some(10.0))
        })
        .judge(100.0, false)
    }

    #[test]
    fn the_ratio_is_held_against_the_target() {
        let verdict = |target| judged(&[QUIET; 5], 0.0, target).verdict;
        assert_eq!(verdict(Target::RatioAtLeast(0.65)), Verdict::Ok);
        assert_eq!(verdict(Target::RatioAtLeast(0.85)), Verdict::Short);
        assert_eq!(verdict(Target::RatioAtMost(1.5)), Verdict::Ok);
        assert_eq!(verdict(Target::AtMost(7.0)), Verdict::Short);
    }

    #[test]
    fn fewer_than_three_quiet_rounds_are_inconclusive() {
        let disks = [QUIET, DISTURBED, DISTURBED, QUIET, DISTURBED];
        let few = judged(&disks, 0.0, Target::RatioAtLeast(0.65));
        assert_eq!((few.verdict, few.disturbed_rounds), (Verdict::Inconclusive, 3));
        let beside_others = judged(&[QUIET; 5], 0.5, Target::RatioAtLeast(0.65));
        assert_eq!(beside_others.verdict, Verdict::Inconclusive);
    }
}

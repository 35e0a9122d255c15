//! The table for people and the file for programs.

use std::path::Path;

use serde::Serialize;
use tests::{Context as _, Failure, TestResult};

use crate::row::{Judged, Row, Target, Unit, Verdict};
use crate::stats::median;
use crate::{disk, processors};

/// All that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    disk_fdatasync_micros: f64,
    /// Median of the rounds: the share of all processors.
    taken_by_others: f64,
    disturbed_when: [&'static str; 2],
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    row: Row,
    judged: Judged,
}

const HEAD: [&str; 6] = ["measure", "ours", "bare", "ratio", "target", "verdict"];

impl Report {
    /// Judges all lines.
    pub(crate) fn new(rows: Vec<Row>, disk_of_the_run: f64, disturbed_too: bool) -> Self {
        let line = |row: Row| Line {
            judged: row.judge(disk_of_the_run, disturbed_too),
            row,
        };
        let figures = rows.iter().flat_map(|row| &row.figures);
        let others: Vec<f64> = figures.map(|figure| figure.others).collect();
        Self {
            disk_fdatasync_micros: disk_of_the_run,
            taken_by_others: median(&others),
            disturbed_when: [disk::RULE, processors::RULE],
            lines: rows.into_iter().map(line).collect(),
        }
    }

    /// Whether every target was reached or could not be judged.
    pub(crate) fn is_good(&self) -> bool {
        self.lines
            .iter()
            .all(|line| line.judged.verdict != Verdict::Short)
    }

    /// Writes it as JSON, with the figures of each round.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn save(&self, path: &Path) -> TestResult<()> {
        let text = serde_json::to_string_pretty(self).map_err(Failure::new)?;
        std::fs::write(path, text).context(path.display())
    }

    /// The table, aligned, with a note below for each line that has one.
    pub(crate) fn table(&self) -> String {
        let mut cells = vec![HEAD.map(str::to_owned)];
        cells.extend(self.lines.iter().map(Line::cells));
        let widths: [usize; 6] = std::array::from_fn(|at| {
            cells
                .iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or_default()
        });
        let mut text = String::new();
        for row in &cells {
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Names and verdicts to the left, figures to the right.
                text += &match at {
                    0 => format!("{cell:<width$}"),
                    5 => format!("  {cell}"),
                    _ => format!("  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
        text += &format!(
            "\nfdatasync {:.0} us; {:.0}% of the processors in other hands (medians of the run).\n",
            self.disk_fdatasync_micros,
            self.taken_by_others * 100.0
        );
        text += &format!(
            "A round is disturbed, and not counted, where {}.\n",
            self.disturbed_when.join(", or where ")
        );
        for Line { row, .. } in self.lines.iter().filter(|line| !line.row.note.is_empty()) {
            text += &format!("{}: {}\n", row.name, row.note);
        }
        text
    }
}

impl Line {
    fn cells(&self) -> [String; 6] {
        let Self { row, judged } = self;
        let inconclusive = judged.verdict == Verdict::Inconclusive;
        let figure = |value: Option<f64>| match value {
            Some(value) if !inconclusive => row.unit.show(value),
            _ => "-".to_owned(),
        };
        let ratio = judged.ratio.filter(|_| !inconclusive);
        [
            row.name.clone(),
            figure(Some(judged.ours)),
            figure(judged.bare),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            row.target.map_or("-".to_owned(), |target| target.show(row.unit)),
            self.verdict(),
        ]
    }

    fn verdict(&self) -> String {
        let (disturbed, rounds) = (self.judged.disturbed_rounds, self.row.figures.len());
        let word = match self.judged.verdict {
            Verdict::Ok => "ok",
            Verdict::Short => "short",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Shown => "shown",
        };
        if disturbed == 0 {
            word.to_owned()
        } else {
            format!("{word} ({disturbed} of {rounds} rounds disturbed)")
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Milliseconds if value < 10.0 => format!("{value:.3} ms"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

impl Target {
    fn show(self, unit: Unit) -> String {
        match self {
            Self::RatioAtLeast(limit) => format!(">= {limit:.2}"),
            Self::RatioAtMost(limit) => format!("<= {limit:.2}"),
            Self::AtMost(limit) => format!("<= {}", unit.show(limit)),
        }
    }
}

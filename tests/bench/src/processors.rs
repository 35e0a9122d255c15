//! What other programs take of the processors while something is measured.
//!
//! Ours keep all processors busy where a bare part keeps one, so other work on the machine does not slow both
//! alike, and a ratio taken beside it says little.

use std::fs;

use ::tests::{Context as _, TestResult};

/// More than this share of all processors in other hands, and the round says something about them instead.
const OTHERS: f64 = 0.15;

/// The rule, in words for the report.
pub(crate) const RULE: &str = "other programs took more than 15% of all processors";

/// Where the fields of `/proc/PID/stat` stand, counted behind the name: see proc(5).
const PARENT: usize = 1;
const TIMES: std::ops::RangeInclusive<usize> = 11..=14;

/// The columns of `/proc/stat` that count: those behind are contained in the first two.
const COLUMNS: usize = 8;
const IDLE: std::ops::RangeInclusive<usize> = 3..=4;

/// Clock ticks since the machine was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    all: f64,
    busy: f64,
    /// Of this program and of those that it has started.
    own: f64,
}

impl Ticks {
    /// As they are now.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub(crate) fn now() -> TestResult<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let (all, busy) = machine(text.lines().next().unwrap_or_default());
        let own = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
            .filter_map(|line| of_family(&line, std::process::id()))
            .sum();
        Ok(Self { all, busy, own })
    }

    /// The share of all processors that others took since then.
    pub(crate) fn taken_by_others(self, since: Self) -> f64 {
        let others = (self.busy - since.busy) - (self.own - since.own);
        (others / (self.all - since.all).max(1.0)).max(0.0)
    }
}

/// Whether others took so much that the figures say something about them.
pub(crate) fn is_disturbed(taken_by_others: f64) -> bool {
    taken_by_others > OTHERS
}

/// All ticks, and those that were not idle.
fn machine(line: &str) -> (f64, f64) {
    let columns = line
        .split_whitespace()
        .skip(1)
        .take(COLUMNS)
        .map(|text| text.parse().unwrap_or(0.0));
    let columns: Vec<f64> = columns.collect();
    let all: f64 = columns.iter().sum();
    let idle: f64 = columns.get(IDLE).unwrap_or_default().iter().sum();
    (all, all - idle)
}

/// The ticks of a process and of its children that have ended, if it is `program` or was started by it.
fn of_family(line: &str, program: u32) -> Option<f64> {
    // The name may hold anything, parentheses too.
    let (head, fields) = line.rsplit_once(')')?;
    let pid: u32 = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let parent: u32 = fields.get(PARENT)?.parse().ok()?;
    let times = fields
        .get(TIMES)?
        .iter()
        .filter_map(|text| text.parse::<f64>().ok());
    (pid == program || parent == program).then(|| times.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_disk_is_idle_and_a_stolen_tick_is_not() {
        let (all, busy) = machine("cpu  10 1 5 100 20 2 3 4 7 0");
        assert!((all - 145.0).abs() < f64::EPSILON);
        assert!((busy - 25.0).abs() < f64::EPSILON);
    }

    #[test]
    fn own_is_the_program_itself_and_what_it_started() {
        let of = |pid, parent| format!("{pid} (a (b) c) S {parent} 7 7 0 -1 4 1 2 3 4 50 6 40 4 20 0");
        assert_eq!(of_family(&of(7, 1), 7), Some(100.0));
        assert_eq!(of_family(&of(8, 7), 7), Some(100.0));
        assert_eq!(of_family(&of(9, 8), 7), None);
    }

    #[test]
    fn what_is_neither_idle_nor_own_is_of_others() {
        let ticks = |all, busy, own| Ticks { all, busy, own };
        let taken = ticks(300.0, 160.0, 70.0).taken_by_others(ticks(100.0, 60.0, 10.0));
        assert!((taken - 0.2).abs() < 1e-9);
        assert!(is_disturbed(taken));
        assert!(!is_disturbed(0.1));
    }
}

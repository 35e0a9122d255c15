//! The points at which builds with the feature `failpoints` kill themselves, and the environment that asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, TestResult};

/// A point of a run: the `hit`-th time that it passes `point`, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boundary {
    /// The point's name.
    pub point: String,
    /// Which passage.
    pub hit: usize,
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.point, self.hit)
    }
}

/// What a service is told about its fail points.
#[derive(Debug, Clone, Default)]
pub struct FailPoints {
    /// Where it kills itself, with SIGKILL.
    pub kill: Option<Boundary>,
    /// Where it writes the name of each point that it passes.
    pub trace: Option<PathBuf>,
    /// One input a commit, so that each boundary stands alone.
    pub one_by_one: bool,
}

impl FailPoints {
    /// Kills itself there, one input a commit.
    pub fn killing(boundary: &Boundary) -> Self {
        Self {
            kill: Some(boundary.clone()),
            one_by_one: true,
            ..Self::default()
        }
    }

    /// Writes down what it passes, one input a commit.
    pub fn tracing(file: PathBuf) -> Self {
        Self {
            trace: Some(file),
            one_by_one: true,
            ..Self::default()
        }
    }

    /// The variables that say so.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(kill) = &self.kill {
            variables.push(("FAILPOINT_KILL", kill.to_string()));
        }
        if let Some(trace) = &self.trace {
            variables.push(("FAILPOINT_TRACE", trace.display().to_string()));
        }
        if self.one_by_one {
            variables.push(("FAILPOINT_BATCH", "1".to_owned()));
        }
        variables
    }
}

/// Those of the store's checkpoints: when they come is up to the clock, not to what is asked for, so no run can be held to
/// pass them. The store's own tests kill at them.
const BY_THE_CLOCK: &str = "checkpoint.";

/// Every boundary that a traced run passed, in the order of its points' names, but for those that come by the clock.
///
/// # Errors
/// Where the trace cannot be read, or is empty: then the program was built without fail points.
pub fn boundaries(trace: &Path) -> TestResult<Vec<Boundary>> {
    let text = std::fs::read_to_string(trace).context(format!("the trace {}", trace.display()))?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let asked_for = |line: &&str| !line.is_empty() && !line.starts_with(BY_THE_CLOCK);
    for point in text.lines().filter(asked_for) {
        *counts.entry(point).or_default() += 1;
    }
    if counts.is_empty() {
        return Err(Failure::new(
            "the trace is empty: build the services with the feature `failpoints` (as `make test` does)",
        ));
    }
    Ok(counts
        .into_iter()
        .flat_map(|(point, hits)| {
            (1..=hits).map(move |hit| Boundary {
                point: point.to_owned(),
                hit,
            })
        })
        .collect())
}

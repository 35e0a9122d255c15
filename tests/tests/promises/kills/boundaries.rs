//! The boundaries at which a service can be killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tests::fail_point::{self, Boundary};
use tests::failure::{Context as _, TestResult, ensure};
use tests::programs::program;

use super::slot::Slot;

/// The passages of a program's undisturbed runs.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Every passage of any run.
    pub(super) passages: BTreeSet<Boundary>,
    /// The points that each run passes.
    pub(super) always: BTreeSet<String>,
}

impl Passed {
    fn of(runs: &[Vec<Boundary>]) -> Self {
        let points = |run: &Vec<Boundary>| run.iter().map(|passage| passage.point.clone()).collect();
        let always = runs
            .iter()
            .map(points)
            .reduce(|all, run: BTreeSet<String>| &all & &run);
        Self {
            passages: runs.iter().flatten().cloned().collect(),
            always: always.unwrap_or_default(),
        }
    }
}

/// Runs the scenario this many times, undisturbed; returns the passages of the host and of the engine.
pub(super) async fn passed(slot: &mut Slot, runs: usize) -> TestResult<(Passed, Passed)> {
    let (mut host, mut engine) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        slot.undisturbed().await.context("undisturbed")?;
        let traces = slot.traces();
        host.push(fail_point::boundaries(&traces.host)?);
        engine.push(fail_point::boundaries(&traces.engine)?);
    }
    Ok((Passed::of(&host), Passed::of(&engine)))
}

/// The names of the points in a trace; none if nothing was traced.
pub(super) fn names(trace: &Path) -> BTreeSet<String> {
    let passed = fail_point::boundaries(trace).unwrap_or_default();
    passed.into_iter().map(|boundary| boundary.point).collect()
}

/// The step boundaries of one operation, from the host's own table.
pub(super) fn table_of(verb: &str) -> TestResult<BTreeSet<String>> {
    let output = Command::new(program("vdsm-svc")?)
        .arg("--list-fail-points")
        .output()?;
    ensure(output.status.success(), || {
        "vdsm-svc was built without the feature `failpoints`; `make test` builds it with it".to_owned()
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let prefix = format!("{verb}.");
    Ok(text
        .lines()
        .filter(|name| name.starts_with(&prefix))
        .map(str::to_owned)
        .collect())
}

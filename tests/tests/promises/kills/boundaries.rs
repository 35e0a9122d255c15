//! Which boundaries there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use tests::fail_point::{self, Boundary};
use tests::failure::{Context as _, Outcome, ensure};
use tests::programs::program;

use super::slot::Slot;

/// Undisturbed runs that are compared: what only some of them pass depends on timing.
const RUNS: usize = 3;

/// What undisturbed runs pass.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// By the host, in every run.
    pub(super) host: Vec<Boundary>,
    /// By the engine, in every run.
    pub(super) engine: Vec<Boundary>,
}

/// Runs the scenario undisturbed, a few times, and takes what every run passed.
pub(super) async fn passed(slot: &mut Slot) -> Outcome<Passed> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        slot.undisturbed().await.context("undisturbed")?;
        let traces = slot.traces();
        runs.push((
            fail_point::boundaries(&traces.host)?,
            fail_point::boundaries(&traces.engine)?,
        ));
    }
    let (host, engine): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    Ok(Passed {
        host: in_all(host),
        engine: in_all(engine),
    })
}

fn in_all(runs: Vec<Vec<Boundary>>) -> Vec<Boundary> {
    let mut counts: BTreeMap<Boundary, usize> = BTreeMap::new();
    for boundary in runs.into_iter().flatten() {
        *counts.entry(boundary).or_default() += 1;
    }
    counts
        .into_iter()
        .filter_map(|(boundary, runs)| (runs == RUNS).then_some(boundary))
        .collect()
}

/// The names of the points that a trace holds; none where nothing was traced.
pub(super) fn names(trace: &Path) -> BTreeSet<String> {
    let passed = fail_point::boundaries(trace).unwrap_or_default();
    passed.into_iter().map(|boundary| boundary.point).collect()
}

/// The host's own table of step boundaries for one operation.
pub(super) fn table_of(verb: &str) -> Outcome<BTreeSet<String>> {
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

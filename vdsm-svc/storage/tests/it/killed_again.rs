//! Whatever cut an operation off first, a kill, an abort or a failure: its recovery is killed at each point that it passes,
//! and the recovery after that again, until one is left alone. The end is the one of a recovery that nobody disturbs.

use std::collections::BTreeSet;

use common::Fault;
use vdsm_storage::{OpEnd, op};

use crate::kills::{Stage, check, different, scenes, undisturbed};
use crate::support::*;

/// More passages than any recovery has.
const FAR: usize = 500;

/// What ends the first attempt of an operation.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The process dies at this passage of a fail point.
    Killed(usize),
    /// An abort is wished at this passage.
    Aborted(usize),
    /// This change to storage meets a full disk.
    Failed(usize),
}

/// A scene after its cut; none where the operation came to a good end all the same.
fn cut_off(scene: &Stage, cut: Cut) -> Option<(Place, Fault)> {
    let mut place = scene.ready();
    match cut {
        Cut::Killed(at) => *place.bench.kill_passage.lock().unwrap() = Some(at),
        Cut::Aborted(at) => *place.bench.abort_passage.lock().unwrap() = Some(at),
        Cut::Failed(at) => *place.bench.fail_call.lock().unwrap() = Some((at, 28)),
    }
    let fault = match place.run(&scene.operation, task(1)) {
        Ran::Well => return None,
        Ran::Ill(fault) => fault,
        Ran::Killed => {
            place.reopen();
            interrupted()
        }
    };
    place.bench.heal();
    Some((place, fault))
}

/// Kills the recovery at this passage, and starts the service again; the end where it has fewer.
fn killed(place: &mut Place, scene: &Stage, cause: &Fault, at: usize) -> Option<OpEnd> {
    *place.bench.kill_passage.lock().unwrap() = Some(at);
    let end = place.recover(&scene.operation, task(1), cause.clone());
    place.bench.heal();
    if end.is_none() {
        place.reopen();
    }
    end
}

/// The points at which a recovery after this cut was killed; none where there is nothing to recover.
fn killed_again(scene: &Stage, cut: Cut, before: &DirContents, after: &DirContents) -> Option<Vec<String>> {
    let how = format!("{}, {cut:?}", scene.name);
    let (place, cause) = cut_off(scene, cut)?;
    let expected = place.recover(&scene.operation, task(1), cause.clone()).unwrap();
    check(&expected, &place, before, after, &how);
    let points = place.bench.points.lock().unwrap().clone();

    // Each passage once.
    for (at, point) in points.iter().enumerate() {
        let (mut place, cause) = cut_off(scene, cut).unwrap();
        let how = format!("{how}, then killed at {point}");
        assert_eq!(killed(&mut place, scene, &cause, at), None, "{how}");
        let end = place.recover(&scene.operation, task(1), cause).unwrap();
        check(&end, &place, before, after, &how);
        assert_eq!(end, expected, "{how}");
    }

    // One after the other: each recovery comes one passage further than the one before it.
    let (mut place, cause) = cut_off(scene, cut).unwrap();
    let end = (0..FAR).find_map(|at| killed(&mut place, scene, &cause, at));
    let how = format!("{how}, then killed again and again");
    let end = end.unwrap_or_else(|| panic!("{how}: it never ends"));
    check(&end, &place, before, after, &how);
    assert_eq!(end, expected, "{how}");
    Some(points)
}

/// Every recovery that there is after these cuts; how many, and the points at which one was killed.
fn after_each(scene: &Stage, cuts: impl Iterator<Item = Cut>) -> (usize, BTreeSet<String>) {
    let (before, after, _) = undisturbed(scene);
    let recoveries: Vec<_> = cuts
        .filter_map(|cut| killed_again(scene, cut, &before, &after))
        .collect();
    (recoveries.len(), recoveries.into_iter().flatten().collect())
}

/// One scene of each recovery: that of a creation is the same for all four kinds of volume.
fn recoveries() -> impl Iterator<Item = Stage> {
    scenes().into_iter().skip(3)
}

#[test]
fn after_a_kill_at_any_step_a_recovery_may_be_killed_at_any_step() {
    let mut everywhere = BTreeSet::new();
    for scene in recoveries() {
        let (_, _, points) = undisturbed(&scene);
        let (recovered, killed) = after_each(&scene, different(&points).map(Cut::Killed));
        assert_eq!(recovered, different(&points).count(), "{}", scene.name);
        // At these by the test of each step.
        everywhere.extend(points);
        everywhere.extend(killed);
    }
    let steps = op::steps().into_iter().flat_map(|(_, steps)| steps);
    let table = steps.flat_map(|step| ["before", "after"].map(|when| format!("{step}.{when}")));
    assert_eq!(everywhere, table.collect(), "where somebody was killed");
}

#[test]
fn after_an_abort_at_any_step_its_undo_may_be_killed_at_any_step() {
    for scene in recoveries() {
        let (_, _, points) = undisturbed(&scene);
        let (undone, _) = after_each(&scene, different(&points).map(Cut::Aborted));
        assert!(undone > 0, "{}", scene.name);
    }
}

#[test]
fn after_a_failure_of_any_change_its_undo_may_be_killed_at_any_step() {
    for scene in recoveries() {
        let changes = changes(&scene);
        let (undone, _) = after_each(&scene, (0..changes).map(Cut::Failed));
        assert!(undone > 0, "{}", scene.name);
    }
}

/// How many changes to storage an undisturbed run makes.
fn changes(scene: &Stage) -> usize {
    let place = scene.ready();
    assert_eq!(place.run(&scene.operation, task(1)), Ran::Well, "{}", scene.name);
    *place.bench.calls.lock().unwrap()
}

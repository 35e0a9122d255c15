//! The power is cut at every step: what was not synced is lost, and still each operation is done or undone. A
//! kill alone keeps the page cache, so under it every missing sync would pass.

use std::collections::BTreeSet;
use std::fs;
use std::iter::once;
use std::path::Path;

use common::{Noop, Operation, Verb as _};

use crate::kills::{Stage, check, different, scenes, undisturbed};
use crate::mount::{Mount, skipped};
use crate::support::*;

/// Where the cut comes.
enum Cut {
    Step(String),
    Change(usize),
}

/// Whether there was something to cut.
fn survives(
    mount: &Mount,
    scene: &Stage,
    pictures: (&DirContents, &DirContents),
    cut: &Cut,
    how: &str,
) -> bool {
    let temp = tempfile::tempdir_in(mount.path()).unwrap();
    let mut place = Place::at(temp);
    scene.prepare(&mut place);
    mount.sync();
    match cut {
        Cut::Step(point) => *place.bench.kill_at.lock().unwrap() = Some(point.clone()),
        Cut::Change(at) => *place.bench.kill_call.lock().unwrap() = Some(*at),
    }
    if place.run(&scene.operation, task(1)) == Ran::Well {
        place.close();
        mount.cut_power();
        assert_eq!(&place.contents(), pictures.1, "{how}: what is done stays done");
        return false;
    }
    place.bench.heal();
    place.close();
    mount.cut_power();
    place.reopen();
    let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
    check(&end, &place, pictures.0, pictures.1, how);
    place.close();
    mount.cut_power();
    check(
        &end,
        &place,
        pictures.0,
        pictures.1,
        &format!("{how}, and again after its end"),
    );
    true
}

/// Some of each verb, by their places among the scenes: creating raw and with allocation, deleting, copying to a file whose
/// space is taken and to another domain, extending raw with allocation and qcow2.
const CUT: [usize; 8] = [0, 3, 5, 6, 7, 8, 10, 11];

fn cut_scenes() -> impl Iterator<Item = Stage> {
    let scenes = scenes().into_iter().enumerate();
    scenes.filter_map(|(place, scene)| CUT.contains(&place).then_some(scene))
}

#[test]
fn the_power_is_cut_of_each_verb_that_changes_storage() {
    let cut: BTreeSet<&str> = cut_scenes().map(|scene| scene.operation.name()).collect();
    let all: BTreeSet<&str> = Operation::ALL_NAMES.iter().copied().collect();
    let left_out: Vec<_> = all.difference(&cut).collect();
    assert_eq!(left_out, [&Noop::NAME], "they do nothing that a cut could undo");
}

fn at_every_step_of(mkfs: &[&str]) {
    let Some(mount) = Mount::make(mkfs) else {
        skipped(&format!("power cut on {}", mkfs[0]));
        return;
    };
    for scene in cut_scenes() {
        let (before, after, points) = undisturbed(&scene);
        for point in different(&points).map(|at| points[at].clone()) {
            let how = format!("{}, cut at {point} on {}", scene.name, mkfs[0]);
            let cut = Cut::Step(point);
            assert!(survives(&mount, &scene, (&before, &after), &cut, &how));
        }
        // Before the first change, and after each: which is before the next one, too.
        for at in once(0).chain((1..).step_by(2)) {
            let how = format!("{}, cut at {at} on {}", scene.name, mkfs[0]);
            if !survives(&mount, &scene, (&before, &after), &Cut::Change(at), &how) {
                break;
            }
        }
    }
}

#[test]
fn a_power_cut_on_xfs_is_survived() {
    at_every_step_of(&["mkfs.xfs", "-q", "-f"]);
}

#[test]
fn a_power_cut_on_ext4_is_survived() {
    at_every_step_of(&["mkfs.ext4", "-q", "-F"]);
}

/// The loop itself: bytes that nobody synced are gone, so a missing sync would be noticed.
#[test]
fn what_was_not_synced_is_lost() {
    let Some(mount) = Mount::make(&["mkfs.xfs", "-q", "-f"]) else {
        return;
    };
    let kept: &Path = &mount.path().join("kept");
    fs::write(kept, b"bytes").unwrap();
    mount.sync();
    fs::write(mount.path().join("lost"), b"bytes").unwrap();
    mount.cut_power();
    assert_eq!(fs::read(kept).unwrap(), b"bytes");
    assert!(!mount.path().join("lost").exists());
}

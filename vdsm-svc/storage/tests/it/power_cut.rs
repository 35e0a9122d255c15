//! The power is cut at every step: what was not synced is lost, and still each operation is done or undone. A
//! kill alone keeps the page cache, so under it every missing sync would pass.

use std::fs;
use std::iter::once;
use std::path::Path;

use crate::kills::{Scene, check, different, scenes, undisturbed};
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
    scene: &Scene,
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

fn at_every_step_of(mkfs: &[&str]) {
    let Some(mount) = Mount::make(mkfs) else {
        skipped(&format!("power cut on {}", mkfs[0]));
        return;
    };
    // Some of each kind: creating raw, creating with allocation, deleting, extending raw with allocation and qcow2.
    for scene in scenes()
        .into_iter()
        .enumerate()
        .filter_map(|(n, s)| [0, 3, 5, 6, 10, 11].contains(&n).then_some(s))
    {
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

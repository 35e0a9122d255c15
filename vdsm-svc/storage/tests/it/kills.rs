//! Killed, aborted or failed at any step and at any single change to storage, an operation ends in one of two
//! states: as if it had not been, or done. What stands beside it keeps every byte.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;

use common::{Allocation, Fault, FaultCode, Noop, Operation, Verb as _, VolumeFormat};
use vdsm_storage::{OpEnd, op};

use crate::pattern;
use crate::support::*;

/// An operation and what stands on the domain before it.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) operation: Operation,
    pub(crate) furnish: fn(&Place),
}

impl Scene {
    /// Furnishes an empty domain for it.
    pub(crate) fn prepare(&self, place: &mut Place) {
        (self.furnish)(place);
        place.reopen();
        place.bench.heal();
    }
}

/// A scene that is set up once, and copied as often as it is played.
pub(crate) struct Stage {
    scene: Scene,
    set: OnceCell<Place>,
}

impl Deref for Stage {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Stage {
    /// A place of its own, with all that stands there before the operation.
    pub(crate) fn ready(&self) -> Place {
        let set = self.set.get_or_init(|| {
            let mut place = Place::in_memory();
            self.prepare(&mut place);
            place.close();
            place
        });
        set.copied()
    }
}

pub(crate) fn scenes() -> Vec<Stage> {
    let on_stage = |scene| Stage {
        scene,
        set: OnceCell::new(),
    };
    all_scenes().into_iter().map(on_stage).collect()
}

fn all_scenes() -> Vec<Scene> {
    let mut scenes: Vec<Scene> = all_kinds()
        .into_iter()
        .map(|(format, allocation)| Scene {
            name: "create a volume in a new image",
            operation: create(1, format, allocation),
            furnish: witness,
        })
        .collect();
    scenes.push(Scene {
        name: "delete an image",
        operation: delete(1),
        furnish: |place| {
            witness(place);
            place.must(&create(1, VolumeFormat::Cow, Allocation::Sparse), 8);
            fs::write(place.image(1).join(format!("{}.lease", volume(1))), b"lease").unwrap();
        },
    });
    scenes.push(Scene {
        name: "delete what is left of an image",
        operation: delete(1),
        furnish: |place| {
            witness(place);
            place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 8);
            let aside = place.images().join(format!("_remove_me_{}", image(1)));
            fs::rename(place.image(1), aside).unwrap();
        },
    });
    scenes.push(Scene {
        name: "delete an image beside what is left of it",
        operation: delete(1),
        furnish: |place| {
            witness(place);
            place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 8);
            let aside = place.images().join(format!("_remove_me_{}", image(1)));
            fs::rename(place.image(1), aside).unwrap();
            place.must(&create(1, VolumeFormat::Cow, Allocation::Sparse), 10);
        },
    });
    scenes.extend(copy_scenes());
    scenes.extend(crate::extend::scenes());
    scenes
}

fn copy_scenes() -> [Scene; 2] {
    [
        Scene {
            name: "copy a raw volume to one with its space taken",
            operation: Operation::CopyVolume(copy(VolumeFormat::Cow, Allocation::Preallocated)),
            furnish: |place| {
                witness(place);
                place.must(&create(7, VolumeFormat::Raw, Allocation::Sparse), 7);
                pattern::write(place, 7, VolumeFormat::Raw);
            },
        },
        Scene {
            name: "copy a qcow2 volume to another domain",
            operation: Operation::CopyVolume(common::CopyVolume {
                target: address(other_domain(), 1),
                verify: false,
                ..copy(VolumeFormat::Raw, Allocation::Sparse)
            }),
            furnish: |place| {
                place.root().create_domain(other_domain(), "other").unwrap();
                witness(place);
                place.must(&create(7, VolumeFormat::Cow, Allocation::Sparse), 7);
                pattern::write(place, 7, VolumeFormat::Cow);
            },
        },
    ]
}

/// Another image, whose bytes must stay.
pub(crate) fn witness(place: &Place) {
    place.must(&create(9, VolumeFormat::Raw, Allocation::Sparse), 9);
    fs::write(place.image(9).join(volume(9).to_string()), b"witness").unwrap();
}

/// The pictures before, and after a run that nothing disturbs; and the fail points that it passes.
pub(crate) fn undisturbed(scene: &Stage) -> (DirContents, DirContents, Vec<String>) {
    let place = scene.ready();
    let before = place.contents();
    assert_eq!(place.run(&scene.operation, task(1)), Ran::Well, "{}", scene.name);
    let points = place.bench.points.lock().unwrap().clone();
    (before, place.contents(), points)
}

/// The passages between which something is changed or noted: from the end of a step to the begin of the next nothing is.
pub(crate) fn different(points: &[String]) -> impl Iterator<Item = usize> {
    (0..points.len()).filter(|at| *at == 0 || points[*at].ends_with(".after"))
}

pub(crate) fn check(end: &OpEnd, place: &Place, before: &DirContents, after: &DirContents, how: &str) {
    match end {
        OpEnd::Finished => assert_eq!(&place.contents(), after, "{how}"),
        OpEnd::Undone(_) => assert_eq!(&place.contents(), before, "{how}"),
        OpEnd::Failed(fault) => panic!("{how}: {fault}"),
    }
}

#[test]
fn every_operation_has_a_scene() {
    let tried: BTreeSet<&str> = scenes().iter().map(|scene| scene.operation.name()).collect();
    let all = Operation::ALL_NAMES.iter().copied();
    let all: BTreeSet<&str> = all.filter(|name| *name != Noop::NAME).collect();
    assert_eq!(tried, all);
}

#[test]
fn killed_at_any_step_it_is_done_or_undone() {
    for scene in scenes() {
        let (before, after, points) = undisturbed(&scene);
        for point in points {
            let mut place = scene.ready();
            *place.bench.kill_at.lock().unwrap() = Some(point.clone());
            assert_eq!(place.run(&scene.operation, task(1)), Ran::Killed);
            place.bench.heal();
            place.reopen();
            let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
            check(
                &end,
                &place,
                &before,
                &after,
                &format!("{}, killed at {point}", scene.name),
            );
        }
    }
}

#[test]
fn killed_at_any_change_it_is_done_or_undone() {
    for scene in scenes() {
        let (before, after, _) = undisturbed(&scene);
        for at in 0.. {
            let mut place = scene.ready();
            *place.bench.kill_call.lock().unwrap() = Some(at);
            let ran = place.run(&scene.operation, task(1));
            if ran == Ran::Well {
                assert!(at >= 10, "{}: {at}", scene.name);
                break;
            }
            place.bench.heal();
            place.reopen();
            let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
            check(
                &end,
                &place,
                &before,
                &after,
                &format!("{}, killed at {at}", scene.name),
            );
        }
    }
}

/// The recovery itself is killed, at each of its changes and steps, and run again.
#[test]
fn killed_during_recovery_it_is_still_done_or_undone() {
    // Recovery is the same for all four kinds of volume: one of them will do.
    for scene in scenes().into_iter().skip(3) {
        let (before, after, points) = undisturbed(&scene);
        for point in points {
            for at in 0.. {
                let mut place = scene.ready();
                *place.bench.kill_at.lock().unwrap() = Some(point.clone());
                assert_eq!(place.run(&scene.operation, task(1)), Ran::Killed);
                place.bench.heal();
                place.reopen();
                *place.bench.kill_call.lock().unwrap() = Some(at);
                let first = place.recover(&scene.operation, task(1), interrupted());
                place.bench.heal();
                place.reopen();
                let how = format!("{}, killed at {point}, then at {at}", scene.name);
                let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
                check(&end, &place, &before, &after, &how);
                if let Some(first) = first {
                    assert_eq!(first, end, "{how}: recovering again says the same");
                    break;
                }
            }
        }
    }
}

#[test]
fn every_step_in_the_table_is_passed_and_none_is_missing() {
    let mut passed = BTreeSet::new();
    for scene in scenes() {
        let (_, _, points) = undisturbed(&scene);
        passed.extend(points.clone());
        for point in points {
            let mut place = scene.ready();
            *place.bench.kill_at.lock().unwrap() = Some(point);
            place.run(&scene.operation, task(1));
            place.bench.heal();
            place.reopen();
            place.recover(&scene.operation, task(1), interrupted()).unwrap();
            passed.extend(place.bench.points.lock().unwrap().clone());
        }
    }
    let table = |when: &str| -> BTreeSet<String> {
        let steps = op::steps().into_iter().flat_map(|(_, steps)| steps);
        steps.map(|s| format!("{s}.{when}")).collect()
    };
    let all: BTreeSet<String> = table("before").union(&table("after")).cloned().collect();
    assert_eq!(passed, all);
}

/// An abort is wished at each step: it takes effect, or it comes too late and the operation is done.
#[test]
fn aborted_at_any_step_it_is_undone_or_done() {
    for scene in scenes() {
        let (before, after, points) = undisturbed(&scene);
        let mut too_late = 0;
        for point in &points {
            let place = scene.ready();
            *place.bench.abort_at.lock().unwrap() = Some(point.clone());
            let how = format!("{}, aborted at {point}", scene.name);
            match place.run(&scene.operation, task(1)) {
                Ran::Well => {
                    assert_eq!(place.contents(), after, "{how}");
                    too_late += 1;
                }
                Ran::Ill(fault) => {
                    assert_eq!(fault.code, FaultCode::Aborted, "{how}");
                    let end = place.recover(&scene.operation, task(1), fault.clone()).unwrap();
                    assert_eq!(end, OpEnd::Undone(fault), "{how}");
                    assert_eq!(place.contents(), before, "{how}");
                }
                Ran::Killed => unreachable!(),
            }
        }
        assert!(too_late > 0 && too_late < points.len(), "{}", scene.name);
    }
}

/// Every single change fails once, with a full disk and with a broken one.
#[test]
fn whatever_change_fails_it_is_undone_or_done() {
    for (errno, code) in [(28, FaultCode::NoSpace), (5, FaultCode::IoError)] {
        for scene in scenes() {
            let (before, after, _) = undisturbed(&scene);
            for at in 0.. {
                let place = scene.ready();
                *place.bench.fail_call.lock().unwrap() = Some((at, errno));
                let how = format!("{}, change {at} failed", scene.name);
                let fault = match place.run(&scene.operation, task(1)) {
                    Ran::Well => break,
                    Ran::Ill(fault) => fault,
                    Ran::Killed => unreachable!(),
                };
                assert_eq!(fault.code, code, "{how}");
                *place.bench.fail_call.lock().unwrap() = None;
                let end = place.recover(&scene.operation, task(1), fault).unwrap();
                check(&end, &place, &before, &after, &how);
            }
        }
    }
}

/// An undo that fails says so, leaves the rest alone, and succeeds when it is run again.
#[test]
fn an_undo_that_fails_can_be_run_again() {
    let scene = &scenes()[0];
    let (before, after, _) = undisturbed(scene);
    for at in 0.. {
        let place = scene.ready();
        *place.bench.kill_at.lock().unwrap() = Some("create_volume.sync_image.after".into());
        assert_eq!(place.run(&scene.operation, task(1)), Ran::Killed);
        place.bench.heal();
        *place.bench.fail_call.lock().unwrap() = Some((at, 5));
        let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
        let OpEnd::Failed(fault) = end else {
            check(&end, &place, &before, &after, "nothing failed");
            assert!(at > 3);
            break;
        };
        assert_eq!(fault.code, FaultCode::IoError);
        place.bench.heal();
        let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
        check(
            &end,
            &place,
            &before,
            &after,
            &format!("change {at} of the undo failed"),
        );
    }
}

/// A store that answers no more stops the operation at its next note.
#[test]
fn without_its_journal_an_operation_stops() {
    for scene in scenes() {
        let (before, after, points) = undisturbed(&scene);
        for point in points.iter().filter(|p| p.ends_with(".before")) {
            let place = scene.ready();
            // Killed first, to stand at this step; then carried on without a store.
            *place.bench.kill_at.lock().unwrap() = Some(point.clone());
            place.run(&scene.operation, task(1));
            place.bench.heal();
            place.bench.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
            let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
            if let OpEnd::Failed(fault) = &end {
                assert_eq!(fault.code, FaultCode::StoreUnavailable);
            }
            place.bench.heal();
            let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
            check(
                &end,
                &place,
                &before,
                &after,
                &format!("{}, deaf at {point}", scene.name),
            );
        }
    }
}

/// Metadata that this operation did not write is not touched, and named.
#[test]
fn what_cannot_be_understood_is_left_as_it_is() {
    let scene = &scenes()[0];
    let place = scene.ready();
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.write_meta.after".into());
    place.run(&scene.operation, task(1));
    place.bench.heal();
    let meta = place.image(1).join(format!("{}.meta", volume(1)));
    let text = fs::read_to_string(&meta).unwrap();
    fs::write(&meta, text.replace("LEGALITY=LEGAL", "LEGALITY=FAKE")).unwrap();
    let before = place.contents();
    let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
    let OpEnd::Failed(fault) = end else {
        panic!("{end:?}")
    };
    assert_eq!(fault.code, FaultCode::GenerationMismatch);
    assert!(fault.message.contains(&volume(1).to_string()));
    assert_eq!(place.contents(), before);
}

/// An image that was made again under the same id while its deletion was cut off is another one.
#[test]
fn an_image_made_again_is_never_purged() {
    let scene = scenes()
        .into_iter()
        .find(|s| s.name == "delete an image")
        .unwrap();
    let place = scene.ready();
    *place.bench.kill_at.lock().unwrap() = Some("delete_image.note_aside.after".into());
    place.run(&scene.operation, task(1));
    place.bench.heal();
    fs::create_dir(place.image(1)).unwrap();
    fs::write(place.image(1).join(volume(1).to_string()), b"new").unwrap();
    let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
    assert_eq!(end, OpEnd::Finished);
    assert_eq!(
        fs::read(place.image(1).join(volume(1).to_string())).unwrap(),
        b"new"
    );
    assert_eq!(
        fs::read_dir(place.images()).unwrap().count(),
        2,
        "the new image and the witness"
    );
}

/// Somebody else's volume that took the name while ours was being made stays.
#[test]
fn a_strangers_volume_is_never_undone() {
    let scene = &scenes()[0];
    let place = scene.ready();
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.note_file.after".into());
    place.run(&scene.operation, task(1));
    place.bench.heal();
    let stranger = place.image(1).join(volume(1).to_string());
    fs::write(&stranger, b"stranger").unwrap();
    fs::write(place.image(1).join(format!("{}.meta.new", volume(1))), b"x").unwrap();
    let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
    assert_eq!(end, OpEnd::Undone(interrupted()));
    assert_eq!(fs::read(&stranger).unwrap(), b"stranger");
    assert_eq!(
        fs::read_dir(place.image(1)).unwrap().count(),
        2,
        "only our own file is gone"
    );
}

#[test]
fn the_cause_is_kept() {
    let place = Place::new();
    let cause = Fault::new(FaultCode::QemuImgFailed, "the cause");
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    assert_eq!(
        place.recover(&operation, task(1), cause.clone()),
        Some(OpEnd::Undone(cause))
    );
}

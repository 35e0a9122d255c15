//! A volume of each kind is made as oVirt would make it, and its image deleted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use common::{Allocation, CopyVolume, FaultCode, Operation, VolumeFormat};
use vdsm_storage::domain::ImageName;
use vdsm_storage::op::{self, Evidence};
use vdsm_storage::volume::VolumeStatus;

use crate::support::*;

#[test]
fn each_kind_is_made_and_deleted() {
    let place = Place::new();
    for (n, (format, allocation)) in (1u128..).zip(all_kinds()) {
        let operation = create(n, format, allocation);
        assert_eq!(op::evidence(place.root(), &operation), Ok(Evidence::Untouched));
        assert_eq!(
            place.run(&operation, task(n)),
            Ran::Well,
            "{format:?} {allocation:?}"
        );
        assert_eq!(op::evidence(place.root(), &operation), Ok(Evidence::Done));

        let info = place.root().volume(domain(), image(n), volume(n)).unwrap();
        assert_eq!((info.status, &info.fault), (VolumeStatus::Ok, &None));
        assert_eq!(info.remarks, Vec::<String>::new());
        let meta = info.meta.unwrap();
        assert_eq!((meta.generation, meta.capacity_bytes), (0, 4 << 20));
        assert_eq!(meta.description, format!("volume {n}, Größe"));

        let file = place.image(n).join(volume(n).to_string());
        let found = fs::metadata(&file).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o660);
        assert_eq!(fs::metadata(place.image(n)).unwrap().mode() & 0o7777, 0o775);
        if rustix::process::geteuid().is_root() {
            assert_eq!((found.uid(), found.gid()), (36, 36));
        }
        match allocation {
            Allocation::Preallocated => assert!(allocated(&file) >= 4 * MIB),
            Allocation::Sparse => assert!(allocated(&file) < MIB),
        }
        if format == VolumeFormat::Raw {
            assert_eq!(found.len(), 4 * MIB);
        }
        let name = if format == VolumeFormat::Raw {
            "raw"
        } else {
            "qcow2"
        };
        let checked = Command::new("qemu-img")
            .args(["info", "-f", name])
            .arg(&file)
            .output()
            .unwrap();
        assert!(checked.status.success());
        if format == VolumeFormat::Cow {
            let check = Command::new("qemu-img")
                .args(["check", "-f", name])
                .arg(&file)
                .output()
                .unwrap();
            assert!(check.status.success(), "{check:?}");
            assert_eq!(info.qcow2.unwrap().virtual_size_bytes, 4 * MIB);
        }
    }
    for n in 1..=4 {
        assert_eq!(op::evidence(place.root(), &delete(n)), Ok(Evidence::Untouched));
        assert_eq!(place.run(&delete(n), task(n)), Ran::Well);
        assert_eq!(op::evidence(place.root(), &delete(n)), Ok(Evidence::ImageAbsent));
    }
    assert_eq!(fs::read_dir(place.images()).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(place.runs()).unwrap().count(),
        0,
        "no run directory stays"
    );
}

#[test]
fn the_largest_volume_can_be_made() {
    let place = Place::new();
    for (n, format) in [(1, VolumeFormat::Raw), (2, VolumeFormat::Cow)] {
        let Operation::CreateVolume(mut op) = create(n, format, Allocation::Sparse) else {
            unreachable!()
        };
        op.capacity_bytes = common::operation::MAX_CAPACITY_BYTES;
        assert_eq!(place.run(&Operation::CreateVolume(op), task(n)), Ran::Well);
        let info = place.root().volume(domain(), image(n), volume(n)).unwrap();
        assert_eq!(info.meta.unwrap().capacity_bytes, 8 << 40);
    }
}

#[test]
fn preallocating_more_than_is_free_is_refused_at_once() {
    let place = Place::new();
    let Operation::CreateVolume(mut op) = create(1, VolumeFormat::Raw, Allocation::Preallocated) else {
        unreachable!()
    };
    op.capacity_bytes = common::operation::MAX_CAPACITY_BYTES;
    let ran = place.run(&Operation::CreateVolume(op), task(1));
    assert_eq!(code(&ran), Some(FaultCode::NoSpace));
    assert!(place.bench.notes.lock().unwrap().is_none(), "nothing was begun");
}

#[test]
fn preallocation_tells_how_far_it_is() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Preallocated), 1);
    assert_eq!(
        place.bench.progress.lock().unwrap().last(),
        Some(&(4 * MIB, 4 * MIB))
    );
}

#[test]
fn a_volume_that_is_there_is_not_touched() {
    let place = Place::new();
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    place.must(&operation, 1);
    fs::write(place.image(1).join(volume(1).to_string()), b"precious").unwrap();
    let before = place.contents();
    assert_eq!(
        code(&place.run(&operation, task(2))),
        Some(FaultCode::VolumeExists)
    );
    assert!(matches!(
        place.recover(&operation, task(2), interrupted()),
        Some(vdsm_storage::OpEnd::Undone(_))
    ));
    assert_eq!(place.contents(), before);
}

#[test]
fn an_image_that_holds_anything_takes_no_volume_without_a_parent() {
    for name in [
        volume(7).to_string(),
        format!("{}.meta", volume(7)),
        ".vdsm-svc-x".into(),
    ] {
        let place = Place::new();
        fs::create_dir(place.image(1)).unwrap();
        fs::write(place.image(1).join(&name), b"precious").unwrap();
        let before = place.contents();
        let ran = place.run(&create(1, VolumeFormat::Raw, Allocation::Sparse), task(1));
        assert_eq!(code(&ran), Some(FaultCode::VolumeExists), "{name}");
        assert_eq!(place.contents(), before);
    }
}

/// A host that lost its store gets the same task anew.
#[test]
fn what_the_same_task_left_before_its_journal_was_lost_is_made_anew() {
    let mut place = Place::new();
    let operation = create(1, VolumeFormat::Cow, Allocation::Sparse);
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.sync_file.after".into());
    assert_eq!(place.run(&operation, task(1)), Ran::Killed);
    place.bench.heal();
    place.reopen();
    assert_eq!(
        code(&place.run(&operation, task(2))),
        Some(FaultCode::VolumeExists)
    );
    place.must(&operation, 1);
    assert!(matches!(
        op::evidence(place.root(), &operation),
        Ok(Evidence::Done)
    ));
}

#[test]
fn an_empty_directory_that_an_earlier_try_left_is_taken_and_undone_like_an_own_one() {
    let place = Place::new();
    let nothing = place.contents();
    fs::create_dir(place.image(1)).unwrap();
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.place_file.after".into());
    assert_eq!(place.run(&operation, task(1)), Ran::Killed);
    place.bench.heal();
    place.recover(&operation, task(1), interrupted()).unwrap();
    assert_eq!(place.contents(), nothing);
    fs::create_dir(place.image(1)).unwrap();
    place.must(&operation, 2);
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let place = Place::new();
    assert_eq!(
        code(&place.run(&delete(1), task(1))),
        Some(FaultCode::ImageNotFound)
    );
}

#[test]
fn a_leftover_is_shown_and_can_be_purged_under_the_images_id() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    let aside = place.images().join(format!("_remove_me_{}", image(1)));
    fs::rename(place.image(1), &aside).unwrap();
    let name = format!("_remove_me_{}", image(1));
    assert_eq!(
        place.root().images(domain()).unwrap(),
        [ImageName::Leftover {
            name: name.clone(),
            image: image(1)
        }]
    );
    assert_eq!(
        place.root().domain(domain()).unwrap().info().unwrap().leftovers,
        [name]
    );
    assert!(matches!(
        op::evidence(place.root(), &delete(1)),
        Ok(Evidence::Partial(_))
    ));
    place.must(&delete(1), 2);
    assert!(!aside.exists());
}

#[test]
fn a_deletion_purges_what_earlier_ones_of_the_image_left_and_nothing_of_others() {
    for live in [true, false] {
        let place = Place::new();
        place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
        let aside = |of, more: &str| place.images().join(format!("_remove_me_{}{more}", image(of)));
        for dir in [aside(1, ""), aside(1, "_2"), aside(1, "_77"), aside(2, "")] {
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(volume(9).to_string()), b"old").unwrap();
            fs::write(dir.join(format!("{}.meta", volume(9))), b"old").unwrap();
        }
        fs::create_dir(aside(1, "_3")).unwrap();
        if !live {
            fs::remove_dir_all(place.image(1)).unwrap();
        }
        place.must(&delete(1), 2);
        let left: Vec<_> = fs::read_dir(place.images()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(aside(2, "").join(volume(9).to_string()).exists());
        assert_eq!(op::evidence(place.root(), &delete(1)), Ok(Evidence::ImageAbsent));
    }
}

/// The task says so, and nothing was touched.
#[test]
fn what_cannot_be_purged_beside_an_image_fails_its_deletion() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    let aside = place.images().join(format!("_remove_me_{}", image(1)));
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("notes.txt"), b"somebody's").unwrap();
    let before = place.contents();
    let Ran::Ill(fault) = place.run(&delete(1), task(2)) else {
        panic!("it was deleted")
    };
    assert_eq!(fault.code, FaultCode::UnexpectedFile, "{fault}");
    assert!(fault.message.contains("notes.txt"), "{fault}");
    assert!(place.contents() == before);
}

#[test]
fn a_half_made_volume_can_be_deleted() {
    let place = Place::new();
    for (n, name) in [(1, volume(1).to_string()), (2, format!("{}.meta", volume(2)))] {
        fs::create_dir(place.image(n)).unwrap();
        fs::write(place.image(n).join(name), b"half").unwrap();
        let listed = place.root().volumes(domain(), image(n)).unwrap();
        assert_eq!(listed[0].status, VolumeStatus::Invalid);
        assert!(listed[0].fault.is_some());
        place.must(&delete(n), n);
        assert!(!place.image(n).exists());
    }
}

/// VDSM makes an image under the very name that it is given, and so may another tool: in capitals it is the same id.
#[test]
fn an_image_in_capitals_is_seen_copied_and_deleted_and_never_doubled() {
    // Ids with letters in them.
    const N: u128 = 0xabc;
    let place = Place::new();
    place.must(&create(N, VolumeFormat::Cow, Allocation::Sparse), 1);
    let capitals = place.images().join(image(N).to_string().to_uppercase());
    fs::rename(place.image(N), &capitals).unwrap();
    for suffix in ["", ".meta"] {
        let name = format!("{}{suffix}", volume(N));
        let other = format!("{}{suffix}", volume(N).to_string().to_uppercase());
        fs::rename(capitals.join(name), capitals.join(other)).unwrap();
    }
    let listed = place.root().images(domain()).unwrap();
    assert_eq!(listed, [ImageName::Image(image(N))]);
    let info = place.root().volume(domain(), image(N), volume(N)).unwrap();
    assert_eq!(info.status, VolumeStatus::Ok);

    assert_eq!(op::evidence(place.root(), &delete(N)), Ok(Evidence::Untouched));
    let again = create(N, VolumeFormat::Raw, Allocation::Sparse);
    assert_eq!(code(&place.run(&again, task(2))), Some(FaultCode::VolumeExists));
    assert!(!place.image(N).exists());
    place.must(
        &Operation::CopyVolume(CopyVolume {
            source: address(domain(), N),
            ..copy(VolumeFormat::Raw, Allocation::Sparse)
        }),
        3,
    );
    place.must(&delete(N), 4);
    assert!(!capitals.exists());
    assert_eq!(
        place.root().images(domain()).unwrap(),
        [ImageName::Image(image(1))]
    );
    assert_eq!(op::evidence(place.root(), &delete(N)), Ok(Evidence::ImageAbsent));
    assert_eq!(
        code(&place.run(&delete(N), task(5))),
        Some(FaultCode::ImageNotFound)
    );
}

#[test]
fn of_a_long_description_as_much_is_kept_as_fits() {
    for (character, kept) in [("a", 210), ("é", 100), ("€", 60), ("💾", 40)] {
        let place = Place::new();
        let Operation::CreateVolume(mut op) = create(1, VolumeFormat::Raw, Allocation::Sparse) else {
            unreachable!()
        };
        op.description = format!("  {}", character.repeat(4_000));
        place.must(&Operation::CreateVolume(op), 1);
        assert!(fs::metadata(place.meta(1)).unwrap().len() <= 512);
        let info = place.root().volume(domain(), image(1), volume(1)).unwrap();
        let found = info.meta.unwrap().description;
        assert_eq!(found, character.repeat(found.chars().count()));
        assert!(found.chars().count() >= kept, "{}", found.chars().count());
    }
}

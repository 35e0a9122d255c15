//! A `qemu-img` that ends well and has done something else: what it made is looked at, and nothing of it becomes a
//! volume.

use common::{Allocation, CopyVolume, FaultCode, Operation, VolumeFormat};
use vdsm_storage::{OpEnd, Options, StorageRoot};

use crate::pattern;
use crate::support::*;

/// From here on the place has a `qemu-img` that is wrong in this way.
fn go_wrong(place: &mut Place, how: &str) {
    place.close();
    let (folder, qemu_img) = double("qemu-img-wrong", how);
    let options = Options {
        hook: place.bench.clone(),
        qemu_img,
        // It calls other programs.
        confiner: unfiltered(),
        ..options(host(), place.temp.path())
    };
    place.doubles.push(folder);
    place.root = Some(StorageRoot::open(place.temp.path(), options).unwrap());
}

/// It fails for that, in words, and is undone as if it had never been.
fn fails(place: &Place, operation: &Operation, expected: FaultCode, words: &str, how: &str) {
    let before = place.contents();
    let Ran::Ill(fault) = place.run(operation, task(1)) else {
        panic!("{how}: it became a volume")
    };
    assert_eq!(fault.code, expected, "{how}: {fault}");
    assert!(fault.message.contains(words), "{how}: {}", fault.message);
    assert!(!place.meta(1).exists(), "{how}");
    let end = place.recover(operation, task(1), fault.clone());
    assert!(place.contents() == before, "{how}");
    assert_eq!(end, Some(OpEnd::Undone(fault)), "{how}");
}

#[test]
fn what_is_not_the_volume_that_was_wished_is_not_made() {
    use VolumeFormat::{Cow, Raw};
    for (how, format, words) in [
        ("idle", Raw, "has 0 bytes"),
        ("idle", Cow, "is not a qcow2 file"),
        ("backing", Cow, "names a backing file"),
        ("data-file", Cow, "has an external data file"),
        ("other-format", Cow, "is not a qcow2 file"),
        ("other-format", Raw, "bytes instead of"),
        ("other-size", Raw, "has 102400 bytes instead of 4194304"),
        ("other-virtual-size", Cow, "has 1048576 bytes instead of 4194304"),
        ("old", Cow, "compat 0.10"),
        ("encrypted", Cow, "is encrypted"),
        ("snapshot", Cow, "snapshots"),
        ("cut", Cow, "truncated"),
        ("raw-full", Raw, "has data at byte"),
        ("mapped", Cow, "has data tables"),
    ] {
        for allocation in [Allocation::Sparse, Allocation::Preallocated] {
            let mut place = Place::in_memory();
            go_wrong(&mut place, how);
            let operation = create(1, format, allocation);
            fails(&place, &operation, FaultCode::QemuImgFailed, words, how);
        }
    }
}

/// Also where nothing is to be compared, and where the program compares for itself.
#[test]
fn what_is_not_a_copy_is_not_made() {
    use FaultCode::{CopyDiffers, QemuImgFailed};
    use VolumeFormat::{Cow, Raw};
    for (how, format, expected, words) in [
        ("no-copy", Raw, CopyDiffers, "differs from"),
        ("no-copy", Cow, CopyDiffers, "differs from"),
        ("zeroed-copy", Raw, CopyDiffers, "differs from"),
        ("cut-copy", Raw, QemuImgFailed, "bytes instead of"),
        ("cut-copy", Cow, QemuImgFailed, "truncated"),
        ("backing-copy", Cow, QemuImgFailed, "names a backing file"),
        ("other-size-copy", Cow, QemuImgFailed, "instead of"),
    ] {
        for source in [Raw, Cow] {
            for verify in [true, false] {
                let mut place = pattern::place_with(source, Allocation::Sparse);
                go_wrong(&mut place, how);
                let operation = Operation::CopyVolume(CopyVolume {
                    verify,
                    ..copy(format, Allocation::Sparse)
                });
                fails(&place, &operation, expected, words, how);
            }
        }
    }
}

#[test]
fn what_was_not_compared_is_not_called_the_same() {
    let mut place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
    go_wrong(&mut place, "no-compare");
    let operation = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse));
    fails(
        &place,
        &operation,
        FaultCode::QemuImgFailed,
        "did not report that they are",
        "no-compare",
    );
}

#[test]
fn what_was_preallocated_stays_so() {
    let mut place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
    go_wrong(&mut place, "punched-copy");
    let operation = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Preallocated));
    fails(
        &place,
        &operation,
        FaultCode::QemuImgFailed,
        "were preallocated",
        "punched-copy",
    );
}

/// Of a large volume too the look takes no longer than a moment, and sees what is missing at its end.
#[test]
fn a_large_copy_of_nothing_is_seen() {
    use VolumeFormat::{Cow, Raw};
    for format in [Raw, Cow] {
        let mut place = Place::new();
        let Operation::CreateVolume(mut op) = create(7, format, Allocation::Sparse) else {
            unreachable!()
        };
        op.capacity_bytes = 1 << 40;
        place.must(&Operation::CreateVolume(op), 7);
        let last = format!("write -P 9 {} 65536", (1u64 << 40) - 65536);
        pattern::qemu_io(
            &place.data(7),
            format,
            &["write -P 9 300G 65536".to_owned(), last],
        );
        go_wrong(&mut place, "no-copy");
        let operation = Operation::CopyVolume(CopyVolume {
            verify: false,
            ..copy(Cow, Allocation::Sparse)
        });
        let ran = place.run(&operation, task(1));
        assert_eq!(code(&ran), Some(FaultCode::CopyDiffers), "{format:?}: {ran:?}");
    }
}

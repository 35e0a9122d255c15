//! A volume grows as a whole or not at all, and keeps every byte; what others stand on or use does not.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use common::{Allocation, ExtendVolume, FaultCode, Operation, VolumeFormat};
use vdsm_storage::volume::VolumeMeta;
use vdsm_storage::{Evidence, OpEnd, op};

use crate::kills::{Scene, witness};
use crate::pattern;
use crate::support::*;

/// Volume `n` to so many MiB; it is made with 4.
pub(crate) fn extend(n: u128, mib: u64) -> Operation {
    Operation::ExtendVolume(ExtendVolume {
        volume: address(domain(), n),
        capacity_bytes: mib * MIB,
    })
}

/// An entry of the first table of a qcow2 file leads to 512 MiB.
const LARGE_MIB: u64 = 8 << 10;

/// Those of the kills.
pub(crate) fn scenes() -> Vec<Scene> {
    fn furnish(place: &Place, format: VolumeFormat, allocation: Allocation) {
        witness(place);
        place.must(&create(1, format, allocation), 8);
        pattern::write(place, 1, format);
    }
    use Allocation::{Preallocated, Sparse};
    use VolumeFormat::{Cow, Raw};
    let scene = |name, mib, furnish| Scene {
        name,
        operation: extend(1, mib),
        furnish,
    };
    vec![
        scene("extend a raw volume", 8, |place| furnish(place, Raw, Sparse)),
        scene("extend a raw volume with its space taken", 8, |place| {
            furnish(place, Raw, Preallocated);
        }),
        scene(
            "extend a qcow2 volume that needs a larger first table",
            LARGE_MIB,
            |place| {
                furnish(place, Cow, Sparse);
            },
        ),
        scene("extend a qcow2 volume with its space taken", 8, |place| {
            furnish(place, Cow, Preallocated);
        }),
    ]
}

fn meta(place: &Place, n: u128) -> VolumeMeta {
    let text = fs::read_to_string(place.meta(n)).unwrap();
    text.parse().unwrap()
}

/// Whether nothing is wrong with the tables of a qcow2 file, nor lost in it.
fn check(place: &Place, n: u128, format: VolumeFormat) {
    if format == VolumeFormat::Cow {
        let checked = Command::new("qemu-img")
            .args(["check", "-f", "qcow2"])
            .arg(place.data(n))
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn a_volume_of_any_kind_grows_and_keeps_every_byte() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        let taken = || fs::metadata(place.data(7)).unwrap().blocks() * 512;
        let before = taken();
        assert_eq!(
            op::evidence(place.root(), &extend(7, 64)),
            Ok(Evidence::Untouched)
        );
        place.must(&extend(7, 64), 1);
        assert_eq!(op::evidence(place.root(), &extend(7, 64)), Ok(Evidence::Done));
        let mut expected = pattern::bytes();
        expected.resize(64 << 20, 0);
        assert!(
            pattern::seen(&place.data(7), format) == expected,
            "{format:?} {allocation:?}"
        );
        check(&place, 7, format);
        let meta = meta(&place, 7);
        assert_eq!((meta.capacity_bytes, meta.generation), (64 << 20, 1));
        match allocation {
            Allocation::Sparse => assert!(taken() < before + MIB, "{format:?}: {} {before}", taken()),
            Allocation::Preallocated => {
                assert!(taken() >= before + 60 * MIB, "{format:?}: {} {before}", taken());
            }
        }
        let info = place.root().volume(domain(), image(7), volume(7)).unwrap();
        assert!(info.fault.is_none() && info.remarks.is_empty(), "{info:?}");
    }
}

#[test]
fn a_qcow2_volume_that_needs_a_larger_first_table_keeps_every_byte() {
    let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
    let before = place.path("before");
    fs::copy(place.data(7), &before).unwrap();
    place.must(&extend(7, LARGE_MIB), 1);
    check(&place, 7, VolumeFormat::Cow);
    // Beyond the end of the smaller one there must be zeros.
    let compared = Command::new("qemu-img")
        .args(["compare", "-f", "qcow2", "-F", "qcow2"])
        .args([before, place.data(7)])
        .output()
        .unwrap();
    assert!(compared.status.success(), "{compared:?}");
    let info = place.root().volume(domain(), image(7), volume(7)).unwrap();
    assert_eq!(info.qcow2.unwrap().virtual_size_bytes, LARGE_MIB * MIB);
}

/// A guest can use all of what it sees.
#[test]
fn what_it_has_grown_by_can_be_written_to() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        place.must(&extend(7, 64), 1);
        let write = format!("write -P 9 {} 64k", (64 << 20) - (64 << 10));
        pattern::qemu_io(&place.data(7), format, &[write]);
        let seen = pattern::seen(&place.data(7), format);
        assert!(seen[(64 << 20) - (64 << 10)..].iter().all(|byte| *byte == 9));
        assert!(seen[..4 << 20] == pattern::bytes());
        check(&place, 7, format);
    }
}

#[test]
fn one_that_is_as_large_already_is_done_and_left_as_it_is() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        let before = place.contents();
        place.must(&extend(7, 4), 1);
        assert_eq!(place.contents(), before);
        place.must(&extend(7, 64), 2);
        let after = place.contents();
        place.must(&extend(7, 64), 3);
        assert_eq!(place.contents(), after);
    }
}

#[test]
fn none_is_made_smaller() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        let before = place.contents();
        let Ran::Ill(fault) = place.run(&extend(7, 2), task(1)) else {
            panic!("{format:?} {allocation:?}");
        };
        assert_eq!(
            (fault.code, fault.subject.as_str()),
            (FaultCode::InvalidArgument, "capacity_bytes")
        );
        assert_eq!(place.contents(), before);
    }
}

#[test]
fn what_is_not_there_or_not_alone_or_not_whole_is_refused() {
    let refused = |code: FaultCode, spoil: &dyn Fn(&Place)| {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        spoil(&place);
        let before = place.contents();
        let Ran::Ill(fault) = place.run(&extend(7, 64), task(1)) else {
            panic!("{code:?}");
        };
        assert_eq!(fault.code, code, "{fault}");
        assert_eq!(place.bench.happened.lock().unwrap().len(), 0, "{fault}");
        assert_eq!(place.contents(), before);
    };
    let says = |place: &Place, from: &str, to: &str| {
        let text = fs::read_to_string(place.meta(7)).unwrap();
        assert!(text.contains(from));
        fs::write(place.meta(7), text.replace(from, to)).unwrap();
    };
    refused(FaultCode::ImageNotFound, &|place| {
        fs::remove_dir_all(place.image(7)).unwrap();
    });
    refused(FaultCode::VolumeNotFound, &|place| {
        fs::remove_file(place.data(7)).unwrap();
        fs::remove_file(place.meta(7)).unwrap();
    });
    refused(FaultCode::VolumeIllegal, &|place| {
        says(place, "LEGALITY=LEGAL", "LEGALITY=ILLEGAL");
    });
    for role in ["INTERNAL", "SHARED"] {
        refused(FaultCode::VolumeInChain, &|place| {
            says(place, "VOLTYPE=LEAF", &format!("VOLTYPE={role}"));
        });
    }
    refused(FaultCode::VolumeInChain, &|place| {
        let parent = format!("PUUID={}", volume(3));
        says(place, "PUUID=00000000-0000-0000-0000-000000000000", &parent);
    });
    refused(FaultCode::VolumeInChain, &|place| {
        fs::write(place.image(7).join(volume(3).to_string()), b"").unwrap();
    });
    refused(FaultCode::VolumeInChain, &|place| {
        fs::hard_link(place.data(7), place.path("elsewhere")).unwrap();
    });
    refused(FaultCode::VolumeMetadataInvalid, &|place| {
        says(place, "DISKTYPE=DATA", "DISKTYPE=DA\u{7}TA");
    });
    refused(FaultCode::VolumeDataInvalid, &|place| {
        let file = File::options().write(true).open(place.data(7)).unwrap();
        file.set_len(5 << 20).unwrap();
    });
}

/// The task that began it is forgotten: another one ends what it began.
#[test]
fn one_that_was_cut_off_and_forgotten_is_carried_on_with() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        *place.bench.kill_at.lock().unwrap() = Some("extend_volume.grow.after".into());
        assert_eq!(place.run(&extend(7, 64), task(1)), Ran::Killed);
        *place.bench.notes.lock().unwrap() = None;
        place.bench.heal();
        let evidence = op::evidence(place.root(), &extend(7, 64)).unwrap();
        assert!(matches!(evidence, Evidence::Partial(_)), "{evidence:?}");
        let Ran::Ill(fault) = place.run(&extend(7, 65), task(3)) else {
            panic!("{format:?} {allocation:?}");
        };
        assert_eq!(fault.code, FaultCode::VolumeDataInvalid);
        assert!(
            fault.message.contains("extend it to exactly that size"),
            "{fault}"
        );
        place.must(&extend(7, 64), 2);
        let seen = pattern::seen(&place.data(7), format);
        assert!(seen.len() == 64 << 20 && seen[..4 << 20] == pattern::bytes());
        assert_eq!(meta(&place, 7).generation, 1);
    }
}

/// What somebody else has changed meanwhile is not written over.
#[test]
fn one_that_was_changed_meanwhile_is_left_as_it_is() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        *place.bench.kill_at.lock().unwrap() = Some("extend_volume.sync_file.after".into());
        assert_eq!(place.run(&extend(7, 64), task(1)), Ran::Killed);
        place.bench.heal();
        let text = fs::read_to_string(place.meta(7)).unwrap();
        fs::write(place.meta(7), text.replace("GEN=0", "GEN=5")).unwrap();
        let before = place.contents();
        let end = place.recover(&extend(7, 64), task(1), interrupted()).unwrap();
        let OpEnd::Failed(fault) = end else {
            panic!("{end:?}");
        };
        assert_eq!(fault.code, FaultCode::GenerationMismatch);
        assert_eq!(place.contents(), before);
    }
}

/// The note comes of a copy of the host's directory that was put back: it is older than what was done, and what a guest may have
/// written by then lies where the note knows of nothing.
#[test]
fn what_has_grown_is_not_cut_off_by_a_note_from_before() {
    for (format, allocation) in all_kinds() {
        let place = pattern::place_with(format, allocation);
        let killed_at = |point: &str| {
            *place.bench.kill_at.lock().unwrap() = Some(point.into());
            assert_eq!(place.run(&extend(7, 64), task(1)), Ran::Killed);
            let note = place.bench.notes.lock().unwrap().clone();
            place.bench.heal();
            note
        };
        let before = killed_at("extend_volume.note_intent.after");
        killed_at("extend_volume.write_meta.after");
        let write = format!("write -P 9 {} 64k", (64 << 20) - (64 << 10));
        pattern::qemu_io(&place.data(7), format, &[write]);
        *place.bench.notes.lock().unwrap() = before;
        let end = place.recover(&extend(7, 64), task(1), interrupted()).unwrap();
        assert_eq!(end, OpEnd::Finished, "{format:?} {allocation:?}");
        let seen = pattern::seen(&place.data(7), format);
        assert!(seen.len() == 64 << 20 && seen[..4 << 20] == pattern::bytes());
        assert!(seen[(64 << 20) - (64 << 10)..].iter().all(|byte| *byte == 9));
        check(&place, 7, format);
    }
}

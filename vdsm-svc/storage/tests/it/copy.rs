//! What a copy holds, whatever its source and its own form; and what it leaves alone.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::id::DomainId;
use common::{Allocation, CopyVolume, FaultCode, Operation, VolumeFormat};
use vdsm_storage::OpEnd;
use vdsm_storage::op::{self, Evidence};
use vdsm_storage::volume::VolumeStatus;

use crate::mount::{Mount, skipped};
use crate::pattern;
use crate::support::*;

fn target_file(place: &Place, domain_id: DomainId) -> PathBuf {
    let below = format!("{domain_id}/images/{}/{}", image(1), volume(1));
    place.path(&below)
}

/// Bytes and metadata of the source.
fn source_of(place: &Place) -> (Vec<u8>, String) {
    let meta = fs::read_to_string(place.meta(7)).unwrap();
    (fs::read(place.data(7)).unwrap(), meta)
}

/// As VDSM keeps it: whatever it is, one that this build does not know, or none, included.
#[test]
fn a_copy_keeps_the_use_of_its_source() {
    for disk_type in ["DATA", "OVFS", "2", "BCKP", ""] {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        let text = fs::read_to_string(place.meta(7)).unwrap();
        let text = text.replace("DISKTYPE=DATA", &format!("DISKTYPE={disk_type}"));
        fs::write(place.meta(7), text).unwrap();
        let operation = Operation::CopyVolume(copy(VolumeFormat::Cow, Allocation::Sparse));
        place.must(&operation, 1);
        let info = place.root().volume(domain(), image(1), volume(1)).unwrap();
        assert_eq!(info.meta.unwrap().disk_type, disk_type);
    }
}

#[test]
fn a_copy_holds_what_its_source_holds_whatever_their_forms() {
    for (source_format, source_allocation) in all_kinds() {
        let place = pattern::place_with(source_format, source_allocation);
        let before = source_of(&place);
        assert_eq!(pattern::seen(&place.data(7), source_format), pattern::bytes());
        for (n, (format, allocation)) in (1u128..).zip(all_kinds()) {
            for (domain_id, verify) in [(domain(), true), (other_domain(), false)] {
                let how = format!("{source_format:?} {source_allocation:?} to {format:?} {allocation:?}");
                let copy = CopyVolume {
                    target: address(domain_id, 1),
                    verify,
                    ..copy(format, allocation)
                };
                let operation = Operation::CopyVolume(copy);
                assert_eq!(op::evidence(place.root(), &operation), Ok(Evidence::Untouched));
                assert_eq!(place.run(&operation, task(n)), Ran::Well, "{how}");
                assert_eq!(op::evidence(place.root(), &operation), Ok(Evidence::Done));

                let file = target_file(&place, domain_id);
                assert!(pattern::seen(&file, format) == pattern::bytes(), "{how}");
                match allocation {
                    Allocation::Preallocated => assert!(allocated(&file) >= 4 * MIB, "{how}"),
                    Allocation::Sparse => assert!(allocated(&file) < MIB, "{how}"),
                }
                let info = place.root().volume(domain_id, image(1), volume(1)).unwrap();
                assert_eq!((info.status, info.fault), (VolumeStatus::Ok, None), "{how}");
                assert_eq!(info.remarks, Vec::<String>::new());
                let meta = info.meta.unwrap();
                assert_eq!((meta.generation, meta.capacity_bytes), (0, 4 << 20));
                assert_eq!((meta.format, meta.allocation), (format, allocation));
                assert_eq!(meta.description, "a copy, Größe");
                assert!(source_of(&place) == before, "{how}");
                place.must(&delete_from(domain_id), 90);
            }
        }
        assert_eq!(fs::read_dir(place.runs()).unwrap().count(), 0);
    }
}

fn delete_from(domain_id: DomainId) -> Operation {
    Operation::DeleteImage(common::DeleteImage {
        domain_id,
        image_id: image(1),
    })
}

#[test]
fn a_copy_of_a_copy_of_nothing_is_nothing() {
    let place = Place::new();
    place.must(&create(7, VolumeFormat::Raw, Allocation::Sparse), 7);
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        let operation = Operation::CopyVolume(copy(format, Allocation::Sparse));
        place.must(&operation, 1);
        assert!(pattern::seen(&place.data(1), format) == vec![0; 4 << 20]);
        place.must(&delete(1), 2);
    }
}

/// Whoever reads the source meanwhile, a copy of it above all, is in nobody's way.
#[test]
fn a_reader_of_the_source_is_in_nobodys_way_and_a_writer_is() {
    use std::process::{Command, Stdio};
    let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
    let operation = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse));
    for (more, expected) in [(Some("-r"), None), (None, Some(FaultCode::ImageInUse))] {
        let mut holder = Command::new("qemu-io")
            .args(more)
            .args(["-f", "qcow2"])
            .arg(place.data(7))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its prompt comes when it has the file open.
        use std::io::Read;
        holder.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
        let ran = place.run(&operation, task(1));
        drop(holder.stdin.take());
        holder.wait().unwrap();
        match expected {
            None => {
                assert_eq!(ran, Ran::Well);
                place.must(&delete(1), 2);
            }
            Some(_) => {
                assert_eq!(code(&ran), expected);
                assert!(place.bench.notes.lock().unwrap().is_none(), "nothing was begun");
            }
        }
    }
}

#[test]
fn progress_rises_to_the_data_of_the_source() {
    for verify in [false, true] {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        let operation = Operation::CopyVolume(CopyVolume {
            verify,
            ..copy(VolumeFormat::Cow, Allocation::Preallocated)
        });
        place.must(&operation, 1);
        let samples = place.bench.progress.lock().unwrap().clone();
        let (_, total) = samples[0];
        // Six blocks of data, and three that were zeroed as data, one of them twice.
        let once = 8 * (64 << 10);
        assert_eq!(total, if verify { 2 * once } else { once });
        assert!(samples.is_sorted() && samples.iter().all(|s| s.1 == total));
        assert_eq!(samples.last(), Some(&(total, total)));
    }
}

fn meanwhile(place: &Place, at: &str, happens: impl Fn() + Send + 'static) {
    *place.bench.meanwhile.lock().unwrap() = Some((at.to_owned(), Box::new(happens)));
}

/// The run fails for the reason given, and leaves nothing.
fn fails_and_is_undone(place: &Place, operation: &Operation, expected: FaultCode) {
    let Ran::Ill(fault) = place.run(operation, task(1)) else {
        panic!("it does not fail")
    };
    assert_eq!(fault.code, expected, "{fault}");
    let end = place.recover(operation, task(1), fault.clone());
    assert_eq!(end, Some(OpEnd::Undone(fault)));
}

#[test]
fn verifying_sees_a_copy_that_went_wrong() {
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        let before = place.contents();
        let own = place.image(1).join(format!(".vdsm-svc-{}", task(1)));
        meanwhile(&place, "copy_volume.sync_file.after", move || match format {
            VolumeFormat::Raw => {
                let file = OpenOptions::new().write(true).open(&own).unwrap();
                file.write_all_at(&[1], 20 * (64 << 10) + 77).unwrap();
                file.sync_all().unwrap();
            }
            VolumeFormat::Cow => pattern::qemu_io(&own, format, &["write -P 9 1310800 1".to_owned()]),
        });
        let operation = Operation::CopyVolume(copy(format, Allocation::Sparse));
        fails_and_is_undone(&place, &operation, FaultCode::CopyDiffers);
        assert!(place.contents() == before);
    }
}

#[test]
fn a_source_that_changed_meanwhile_makes_no_copy() {
    for (from, to) in [("GEN=0", "GEN=1"), ("LEGALITY=LEGAL", "LEGALITY=ILLEGAL")] {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        let meta = place.meta(7);
        let text = fs::read_to_string(&meta).unwrap();
        assert!(text.contains(from));
        let changed = text.replace(from, to);
        meanwhile(&place, "copy_volume.sync_image.after", move || {
            fs::write(&meta, &changed).unwrap();
        });
        let operation = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse));
        fails_and_is_undone(&place, &operation, FaultCode::GenerationMismatch);
        assert!(!place.image(1).exists());
    }
}

/// The name is taken by another file after it was looked at: what was looked at is what is copied, and a copy of what the
/// volume is no more is none.
#[test]
fn what_is_copied_is_what_was_looked_at_and_no_copy_is_left_where_that_is_no_more() {
    type Deed = fn(&Path, &Path);
    let deeds: [Deed; 5] = [
        // A backup tool, or a restore: the same size, other bytes, the old file kept or not.
        |_, data| {
            fs::rename(data, data.with_extension("old")).unwrap();
            fs::write(data, vec![7; pattern::bytes().len()]).unwrap();
        },
        |_, data| {
            let other = data.with_extension("new");
            fs::write(&other, vec![7; pattern::bytes().len()]).unwrap();
            fs::rename(other, data).unwrap();
        },
        |_, data| {
            fs::rename(data, data.with_extension("old")).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", data).unwrap();
        },
        |image, _| fs::rename(image, image.with_extension("old")).unwrap(),
        // The same file: written to in place.
        |_, data| {
            let file = OpenOptions::new().write(true).open(data).unwrap();
            file.write_all_at(&[9], 5).unwrap();
        },
    ];
    for (n, deed) in deeds.into_iter().enumerate() {
        for point in ["copy_volume.qemu_img.after", "copy_volume.convert.after"] {
            let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
            let (image, data) = (place.image(7), place.data(7));
            meanwhile(&place, point, move || deed(&image, &data));
            let operation = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse));
            let ran = place.run(&operation, task(1));
            let Ran::Ill(fault) = ran else {
                panic!("{n}, {point}: {ran:?}")
            };
            // Where it was written to before it was read to the end, the pieces that are compared may tell as well.
            let codes = [FaultCode::GenerationMismatch, FaultCode::CopyDiffers];
            assert!(codes.contains(&fault.code), "{n}, {point}: {fault}");
            let end = place.recover(&operation, task(1), fault.clone());
            assert_eq!(end, Some(OpEnd::Undone(fault)));
            assert!(!place.image(1).exists(), "{n}, {point}");
        }
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_is_no_space_and_leaves_nothing() {
    let Some(mount) = Mount::make(&["mkfs.ext4", "-q", "-F", "-m", "0"]) else {
        skipped("a full disk");
        return;
    };
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        let place = Place::at(tempfile::tempdir_in(mount.path()).unwrap());
        let place = Arc::new(place);
        place.must(&create(7, VolumeFormat::Raw, Allocation::Sparse), 7);
        pattern::write(&place, 7, VolumeFormat::Raw);
        let before = place.contents();
        let filler = mount.path().join("filler");
        let fill = filler.clone();
        let folder = mount.path();
        meanwhile(&place, "copy_volume.convert.before", move || {
            let stat = rustix::fs::statvfs(&folder).unwrap();
            let free = stat.f_bavail * stat.f_frsize;
            let file = fs::File::create(&fill).unwrap();
            // All but room for some of the data.
            let bytes = free - 160 * 1024;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        });
        let operation = Operation::CopyVolume(CopyVolume {
            verify: false,
            ..copy(format, Allocation::Sparse)
        });
        fails_and_is_undone(&place, &operation, FaultCode::NoSpace);
        assert!(place.contents() == before);
        fs::remove_file(filler).unwrap();
    }
}

/// Many copies at once, of one source and of each other's images, all whole.
#[test]
fn copies_of_one_source_run_side_by_side() {
    let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
    let (root, bench) = (place.root(), &*place.bench);
    std::thread::scope(|scope| {
        for n in 10..14u128 {
            scope.spawn(move || {
                let copy = CopyVolume {
                    target: address(domain(), n),
                    ..copy(VolumeFormat::Raw, Allocation::Sparse)
                };
                op::run(root, &Operation::CopyVolume(copy), task(n), bench).unwrap();
            });
        }
    });
    for n in 10..14 {
        assert!(fs::read(place.data(n)).unwrap() == pattern::bytes());
    }
}

/// VDSM extends a volume to any capacity, and rounds up what it makes; qemu-img does so too, to another step.
#[test]
fn a_copy_of_an_odd_capacity_is_rounded_up_as_by_vdsm() {
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        for allocation in [Allocation::Sparse, Allocation::Preallocated] {
            let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
            let odd = (1 << 20) + 1;
            let file = OpenOptions::new().write(true).open(place.data(7)).unwrap();
            file.set_len(odd).unwrap();
            let text = fs::read_to_string(place.meta(7)).unwrap();
            fs::write(place.meta(7), text.replace("CAP=4194304", &format!("CAP={odd}"))).unwrap();
            place.must(&Operation::CopyVolume(copy(format, allocation)), 1);
            let info = place.root().volume(domain(), image(1), volume(1)).unwrap();
            assert_eq!(info.meta.unwrap().capacity_bytes, (1 << 20) + 4096, "{format:?}");
            assert_eq!(info.remarks, Vec::<String>::new());
            let mut expected = fs::read(place.data(7)).unwrap();
            expected.resize((1 << 20) + 4096, 0);
            assert!(pattern::seen(&place.data(1), format) == expected, "{format:?}");
        }
    }
}

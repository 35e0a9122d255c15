//! Sources and targets that a copy refuses, before anything is noted or touched.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Allocation, CopyVolume, FaultCode, Operation, VolumeFormat};
use nix::sys::stat::Mode;
use vdsm_storage::OpEnd;

use crate::pattern;
use crate::support::*;

fn to_raw() -> Operation {
    Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse))
}

/// Refused with the code, nothing noted, nothing touched; a recovery has nothing to do.
fn refused(place: &Place, operation: &Operation, expected: FaultCode, how: &str) {
    let before = look(place);
    let ran = place.run(operation, task(1));
    assert_eq!(code(&ran), Some(expected), "{how}: {ran:?}");
    assert!(place.bench.notes.lock().unwrap().is_none(), "{how}: it was begun");
    assert_eq!(place.bench.points.lock().unwrap().len(), 0, "{how}");
    assert!(look(place) == before, "{how}");
}

/// Names only: what stands there may be a FIFO.
fn look(place: &Place) -> Vec<std::path::PathBuf> {
    let images = fs::read_dir(place.images()).unwrap();
    let mut found: Vec<_> = images
        .flat_map(|image| fs::read_dir(image.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

#[test]
fn what_is_not_there_is_named() {
    let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
    let from = |source| {
        Operation::CopyVolume(CopyVolume {
            source,
            ..copy(VolumeFormat::Raw, Allocation::Sparse)
        })
    };
    let known = address(domain(), 7);
    let nowhere = "00000000-0000-4000-8000-00000000dead".parse().unwrap();
    let cases = [
        (address(nowhere, 7), FaultCode::DomainNotFound),
        (address(domain(), 8), FaultCode::ImageNotFound),
        (
            common::VolumeAddress {
                volume_id: volume(8),
                ..known
            },
            FaultCode::VolumeNotFound,
        ),
    ];
    for (source, expected) in cases {
        refused(&place, &from(source), expected, &format!("{source:?}"));
    }
    let to_nowhere = Operation::CopyVolume(CopyVolume {
        target: address(nowhere, 1),
        ..copy(VolumeFormat::Raw, Allocation::Sparse)
    });
    refused(
        &place,
        &to_nowhere,
        FaultCode::DomainNotFound,
        "the target's domain",
    );
}

#[test]
fn a_target_that_is_there_is_not_touched() {
    let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 2);
    refused(&place, &to_raw(), FaultCode::VolumeExists, "a volume");
}

#[test]
fn what_cannot_fit_is_refused_at_once() {
    let place = Place::new();
    let Operation::CreateVolume(mut op) = create(7, VolumeFormat::Raw, Allocation::Sparse) else {
        unreachable!()
    };
    op.capacity_bytes = common::operation::MAX_CAPACITY_BYTES;
    place.must(&Operation::CreateVolume(op), 7);
    let operation = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Preallocated));
    refused(&place, &operation, FaultCode::NoSpace, "preallocated");
}

#[test]
fn metadata_that_forbids_it_is_heeded() {
    for (from, to, expected) in [
        ("LEGALITY=LEGAL", "LEGALITY=ILLEGAL", FaultCode::VolumeIllegal),
        ("LEGALITY=LEGAL", "LEGALITY=FAKE", FaultCode::VolumeIllegal),
        ("VOLTYPE=LEAF", "VOLTYPE=INTERNAL", FaultCode::VolumeInChain),
        (
            "PUUID=00000000-0000-0000-0000-000000000000",
            "PUUID=00000000-0000-4000-8000-0000000000aa",
            FaultCode::VolumeInChain,
        ),
        ("CAP=4194304", "CAP=4198400", FaultCode::VolumeDataInvalid),
        ("CAP=4194304", "CAP=4190208", FaultCode::VolumeDataInvalid),
        ("FORMAT=RAW", "FORMAT=COW", FaultCode::VolumeDataInvalid),
        ("CAP=4194304", "CAP=0", FaultCode::VolumeDataInvalid),
        ("CAP=4194304", "CAP=-1", FaultCode::VolumeDataInvalid),
        (
            "LEGALITY=LEGAL",
            "LEGALITY=MAYBE",
            FaultCode::VolumeMetadataInvalid,
        ),
        ("LEGALITY=LEGAL\n", "", FaultCode::VolumeMetadataInvalid),
        (
            "DISKTYPE=DATA",
            "DISKTYPE=D\0TA",
            FaultCode::VolumeMetadataInvalid,
        ),
    ] {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        let text = fs::read_to_string(place.meta(7)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(place.meta(7), text.replace(from, to)).unwrap();
        refused(&place, &to_raw(), expected, to);
    }
}

#[test]
fn why_an_illegal_volume_is_not_copied_is_said_rightly() {
    for (legality, reason) in [("ILLEGAL", "interrupted"), ("FAKE", "placeholder for a template")] {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        let text = fs::read_to_string(place.meta(7)).unwrap();
        let text = text.replace("LEGALITY=LEGAL", &format!("LEGALITY={legality}"));
        fs::write(place.meta(7), text).unwrap();
        let Ran::Ill(fault) = place.run(&to_raw(), task(1)) else {
            panic!("{legality} was copied");
        };
        assert!(fault.message.contains(reason), "{}", fault.message);
    }
}

#[test]
fn a_volume_that_others_stand_on_or_beside_is_refused() {
    let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
    let child = place.image(7).join(volume(8).to_string());
    fs::write(&child, b"child").unwrap();
    refused(&place, &to_raw(), FaultCode::VolumeInChain, "beside another one");
    fs::remove_file(&child).unwrap();
    fs::create_dir(place.image(2)).unwrap();
    fs::hard_link(place.data(7), place.image(2).join(volume(7).to_string())).unwrap();
    refused(&place, &to_raw(), FaultCode::VolumeInChain, "a second name");
    let Ran::Ill(fault) = place.run(&to_raw(), task(2)) else {
        panic!("it was copied")
    };
    assert!(fault.message.contains("a second name (a hard link)"), "{fault}");
}

/// Puts one thing that is no regular file under a path.
type Put = fn(&Path);

#[test]
fn a_source_that_is_no_regular_file_is_not_read() {
    let puts: [(&str, Put); 4] = [
        ("a symlink", |path| symlink("/etc/hostname", path).unwrap()),
        ("a dangling symlink", |path| {
            symlink("/nonexistent", path).unwrap()
        }),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a FIFO", |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap()),
    ];
    for (what, put) in puts {
        let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
        fs::remove_file(place.data(7)).unwrap();
        put(&place.data(7));
        refused(&place, &to_raw(), FaultCode::NotARegularFile, what);
    }
}

/// A header that a guest or a stranger could have written; the secret must not get into a copy.
#[test]
fn hostile_headers_are_refused() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), [b's'; 4096]).unwrap();
    let path = secret.path().display();
    let made = |options: &[&str]| {
        let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
        fs::remove_file(place.data(7)).unwrap();
        let output = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(options)
            .arg(place.data(7))
            .arg("4M")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        place
    };
    let backing = made(&["-b", &path.to_string(), "-F", "raw"]);
    refused(
        &backing,
        &to_raw(),
        FaultCode::VolumeDataInvalid,
        "a backing file",
    );
    let data_file = made(&["-o", &format!("data_file={path}")]);
    refused(&data_file, &to_raw(), FaultCode::VolumeDataInvalid, "a data file");

    // Offsets in the header: the encryption method, and the lowest byte of the incompatible features.
    let patches: [(&str, u64, u8); 4] = [
        ("encryption", 35, 1),
        ("corrupt", 79, 1 << 1),
        ("an unknown feature", 79, 1 << 6),
        ("an impossible version", 7, 9),
    ];
    for (what, at, byte) in patches {
        let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
        let file = fs::OpenOptions::new().write(true).open(place.data(7)).unwrap();
        file.write_all_at(&[byte], at).unwrap();
        refused(&place, &to_raw(), FaultCode::VolumeDataInvalid, what);
    }
}

/// A raw volume whose guest wrote a qcow2 header onto it is copied byte by byte: nobody guesses a format.
#[test]
fn a_raw_volume_that_looks_like_qcow2_is_raw() {
    let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
    let evil = tempfile::NamedTempFile::new().unwrap();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-b", "/etc/hostname", "-F", "raw"])
        .arg(evil.path())
        .arg("4M")
        .status()
        .unwrap();
    assert!(made.success());
    let file = fs::OpenOptions::new().write(true).open(place.data(7)).unwrap();
    file.write_all_at(&fs::read(evil.path()).unwrap(), 0).unwrap();
    let bytes = fs::read(place.data(7)).unwrap();
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        place.must(&Operation::CopyVolume(copy(format, Allocation::Sparse)), 1);
        assert!(pattern::seen(&place.data(1), format) == bytes);
        place.must(&delete(1), 2);
    }
}

/// A qcow2 file of some hundred kilobytes, in which each of its 4,096 clusters is the same one.
fn bomb(data: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(data).unwrap();
    let mut entry = [0; 8];
    let at = |file: &fs::File, entry: &mut [u8; 8], at: u64| {
        file.read_exact_at(entry, at).unwrap();
        u64::from_be_bytes(*entry) & 0x00ff_ffff_ffff_fe00
    };
    let first = at(&file, &mut entry, 40);
    let second = at(&file, &mut entry, first);
    at(&file, &mut entry, second);
    file.write_all_at(&entry.repeat(4_096), second).unwrap();
}

/// A small source of 256 MiB with one cluster of data.
fn place_with_one_cluster() -> Place {
    place_with_one_cluster_of(256 * MIB)
}

fn place_with_one_cluster_of(capacity_bytes: u64) -> Place {
    let place = Place::new();
    let Operation::CreateVolume(mut op) = create(7, VolumeFormat::Cow, Allocation::Sparse) else {
        unreachable!()
    };
    op.capacity_bytes = capacity_bytes;
    place.must(&Operation::CreateVolume(op), 7);
    pattern::qemu_io(
        &place.data(7),
        VolumeFormat::Cow,
        &["write -P 9 0 65536".to_owned()],
    );
    place
}

#[test]
fn a_source_that_uses_a_cluster_many_times_is_refused_before_anything_is_written() {
    let place = place_with_one_cluster();
    bomb(&place.data(7));
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        let operation = Operation::CopyVolume(copy(format, Allocation::Sparse));
        let ran = place.run(&operation, task(1));
        assert_eq!(code(&ran), Some(FaultCode::VolumeDataInvalid), "{ran:?}");
        assert!(!place.image(1).exists());
    }
}

/// One second table under all places of the first: each tells of no more than the file holds.
#[test]
fn a_source_that_uses_a_table_many_times_is_refused_before_anything_is_written() {
    let place = place_with_one_cluster_of(2_048 * MIB);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.data(7))
        .unwrap();
    let mut entry = [0; 8];
    file.read_exact_at(&mut entry, 40).unwrap();
    let first = u64::from_be_bytes(entry);
    file.read_exact_at(&mut entry, first).unwrap();
    file.write_all_at(&entry.repeat(4), first).unwrap();
    let operation = Operation::CopyVolume(copy(VolumeFormat::Cow, Allocation::Sparse));
    let ran = place.run(&operation, task(1));
    assert_eq!(code(&ran), Some(FaultCode::VolumeDataInvalid), "{ran:?}");
    assert!(!place.image(1).exists());
}

/// It becomes such a one after it was looked at: the copy is stopped, or by the kernel, and removed.
#[test]
fn a_source_that_comes_to_use_a_cluster_many_times_fills_nothing() {
    use FaultCode::{FileTooLarge, VolumeDataInvalid};
    for (format, expected) in [
        (VolumeFormat::Raw, VolumeDataInvalid),
        (VolumeFormat::Cow, FileTooLarge),
    ] {
        let place = place_with_one_cluster();
        let data = place.data(7);
        let happens = move || bomb(&data);
        *place.bench.meanwhile.lock().unwrap() =
            Some(("copy_volume.convert.before".to_owned(), Box::new(happens)));
        let operation = Operation::CopyVolume(copy(format, Allocation::Sparse));
        let Ran::Ill(fault) = place.run(&operation, task(1)) else {
            panic!("{format:?}: it was copied")
        };
        assert_eq!(fault.code, expected, "{fault}");
        place.bench.heal();
        let end = place.recover(&operation, task(1), fault.clone());
        assert_eq!(end, Some(OpEnd::Undone(fault)));
        assert!(!place.image(1).exists());
    }
}

//! What should not be there: links, special files, strangers' files, open files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;

use common::{Allocation, FaultCode, VolumeFormat};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use vdsm_storage::volume::VolumeStatus;

use crate::support::*;

/// Puts one thing that is no regular file under a path.
type Put = fn(&Path);

const NOT_FILES: [(&str, Put); 4] = [
    ("a symlink", |path| symlink("/etc/hostname", path).unwrap()),
    ("a dangling symlink", |path| {
        symlink("/nonexistent", path).unwrap()
    }),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a FIFO", |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap()),
];

#[test]
fn what_is_no_regular_file_is_neither_read_nor_made_over_nor_deleted() {
    for (what, put) in NOT_FILES {
        for suffix in ["", ".meta"] {
            let place = Place::new();
            let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
            fs::create_dir(place.image(1)).unwrap();
            put(&place.image(1).join(format!("{}{suffix}", volume(1))));

            let listed = place.root().volumes(domain(), image(1)).unwrap();
            assert_eq!(listed[0].status, VolumeStatus::Invalid, "{what}");
            let ran = place.run(&operation, task(1));
            assert_eq!(code(&ran), Some(FaultCode::VolumeExists), "{what}");
            let ran = place.run(&delete(1), task(2));
            assert_eq!(code(&ran), Some(FaultCode::NotARegularFile), "{what}");
            let (listed, deleted) = (listed[0].fault.as_ref().unwrap(), format!("{ran:?}"));
            assert!(
                deleted.contains(what.trim_start_matches("a dangling ")),
                "{deleted}"
            );
            assert!(!listed.message.contains("os error"), "{listed}");
            assert!(place.image(1).exists());
        }
    }
}

#[test]
fn a_volume_behind_a_symlink_is_not_a_regular_file() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    let data = place.image(1).join(volume(1).to_string());
    fs::remove_file(&data).unwrap();
    symlink("/etc/hostname", &data).unwrap();
    let info = place.root().volume(domain(), image(1), volume(1)).unwrap();
    let fault = info.fault.unwrap();
    assert_eq!(fault.code, FaultCode::NotARegularFile);
    assert!(
        fault.message.contains("it is a symlink, not a regular file"),
        "{fault}"
    );
}

#[test]
fn an_image_or_a_domain_behind_a_symlink_is_not_followed() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join(volume(1).to_string()), b"precious").unwrap();
    symlink(elsewhere.path(), place.image(1)).unwrap();
    for operation in [create(1, VolumeFormat::Raw, Allocation::Sparse), delete(1)] {
        let ran = place.run(&operation, task(1));
        assert_eq!(code(&ran), Some(FaultCode::NotARegularFile));
    }
    let other = "00000000-0000-4000-8000-0000000000dd";
    symlink(place.path(&domain().to_string()), place.path(other)).unwrap();
    let fault = place.root().domain(other.parse().unwrap()).err().unwrap();
    assert_eq!(fault.code, FaultCode::NotARegularFile);
    assert!(
        fault.message.contains("it is a symlink, not a directory"),
        "{fault}"
    );
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn a_strangers_file_keeps_an_image_from_being_deleted() {
    for (name, code_expected) in [
        ("notes.txt", FaultCode::UnexpectedFile),
        (".nfs0000000000000001", FaultCode::ImageInUse),
    ] {
        let place = Place::new();
        place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
        fs::write(place.image(1).join(name), b"mine").unwrap();
        let before = place.contents();
        let ran = place.run(&delete(1), task(2));
        assert_eq!(code(&ran), Some(code_expected));
        assert!(place.bench.notes.lock().unwrap().is_none(), "refused up front");
        assert_eq!(place.contents(), before);
    }
}

#[test]
fn a_template_that_others_stand_on_is_not_deleted_and_its_links_are() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Cow, Allocation::Sparse), 1);
    let meta = format!("{}.meta", volume(1));
    let text = fs::read_to_string(place.image(1).join(&meta)).unwrap();
    fs::write(
        place.image(1).join(&meta),
        text.replace("VOLTYPE=LEAF", "VOLTYPE=SHARED"),
    )
    .unwrap();
    place.must(&create(2, VolumeFormat::Cow, Allocation::Sparse), 2);
    for name in [volume(1).to_string(), meta] {
        fs::hard_link(place.image(1).join(&name), place.image(2).join(&name)).unwrap();
    }
    let template = fs::read(place.image(1).join(volume(1).to_string())).unwrap();

    let ran = place.run(&delete(1), task(3));
    assert_eq!(code(&ran), Some(FaultCode::ImageShared));
    place.must(&delete(2), 4);
    assert_eq!(
        fs::read(place.image(1).join(volume(1).to_string())).unwrap(),
        template
    );
    place.must(&delete(1), 5);
}

/// qemu takes shared locks on single bytes from 100 on.
#[test]
fn an_image_that_qemu_has_open_is_not_deleted() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    let file = File::open(place.image(1).join(volume(1).to_string())).unwrap();
    let set = |l_type: i32| {
        let lock = libc::flock {
            l_type: l_type as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 101,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    };
    set(libc::F_RDLCK);
    let ran = place.run(&delete(1), task(2));
    assert_eq!(code(&ran), Some(FaultCode::ImageInUse));
    let fault = place.root().format_domain(domain(), true).unwrap_err();
    assert_eq!(fault.code, FaultCode::ImageInUse);
    // Closing would not do: a child that another test just starts has a copy of the file until its exec.
    set(libc::F_UNLCK);
    place.must(&delete(1), 3);
}

/// As many files as there may be in an image: each of the looks before the point of no return asks at each of them.
#[test]
fn a_deletion_of_many_files_hears_an_abort_at_each_of_them() {
    const FILES: usize = 50;
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    for n in 0..FILES {
        fs::write(
            place.image(1).join(format!("{}.lease", volume(100 + n as u128))),
            b"",
        )
        .unwrap();
    }
    let before = place.contents();
    // Whether it holds what it may, whether others stand on it, and twice whether it is in use.
    for when in (1..4 * FILES).step_by(7) {
        place.bench.asked.store(0, Ordering::SeqCst);
        place.bench.abort_when_asked.store(when, Ordering::SeqCst);
        let ran = place.run(&delete(1), task(2));
        assert_eq!(code(&ran), Some(FaultCode::Aborted), "{when}: {ran:?}");
        assert_eq!(place.bench.asked.load(Ordering::SeqCst), when, "it did not go on");
        assert_eq!(place.contents(), before, "{when}");
    }
    place.bench.abort_when_asked.store(0, Ordering::SeqCst);
    place.must(&delete(1), 3);
}

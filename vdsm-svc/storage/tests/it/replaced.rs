//! Something else stands where a part of a domain should be, or nothing: each call is answered at once and with a
//! code that is stable, nothing is touched, and the other domain goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Allocation, CopyVolume, Fault, FaultCode, Operation, VolumeFormat};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use vdsm_storage::op;

use crate::mount::skipped;
use crate::support::*;

/// For all calls on one place. Opening a FIFO that nobody writes to takes for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts something under a path where nothing is; whether it could.
type Put = fn(&Path) -> bool;

const PUT: [(&str, Put); 6] = [
    ("nothing", |_| true),
    ("a symlink", |path| symlink("/etc", path).is_ok()),
    ("a dangling symlink", |path| symlink("/nonexistent", path).is_ok()),
    ("a directory", |path| fs::create_dir(path).is_ok()),
    ("a FIFO", |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).is_ok()),
    // That of the machine's console, which would act: only root may make one.
    ("a device", |path| {
        mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(5, 1)).is_ok()
    }),
];

/// A part of a domain, what is said of it when it is gone, and when it is something else.
struct Part {
    name: &'static str,
    path: fn(&Place) -> std::path::PathBuf,
    gone: FaultCode,
    other: FaultCode,
    /// A directory in its place is another one of its kind, and empty.
    empty: FaultCode,
}

const OF_THE_DOMAIN: [Part; 4] = [
    Part {
        name: "the domain",
        path: |place| place.path(&domain().to_string()),
        gone: FaultCode::DomainNotFound,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::DomainMetadataInvalid,
    },
    Part {
        name: "dom_md",
        path: |place| place.path(&format!("{}/dom_md", domain())),
        gone: FaultCode::DomainMetadataInvalid,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::DomainMetadataInvalid,
    },
    Part {
        name: "metadata",
        path: |place| place.path(&format!("{}/dom_md/metadata", domain())),
        gone: FaultCode::DomainMetadataInvalid,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::NotARegularFile,
    },
    Part {
        name: "images",
        path: |place| place.images(),
        gone: FaultCode::DomainMetadataInvalid,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::ImageNotFound,
    },
];

const OF_THE_IMAGE: [Part; 3] = [
    Part {
        name: "the image",
        path: |place| place.image(1),
        gone: FaultCode::ImageNotFound,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::VolumeNotFound,
    },
    Part {
        name: "the data",
        path: |place| place.data(1),
        gone: FaultCode::VolumeMetadataInvalid,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::NotARegularFile,
    },
    Part {
        name: "the .meta",
        path: |place| place.meta(1),
        gone: FaultCode::VolumeMetadataInvalid,
        other: FaultCode::NotARegularFile,
        empty: FaultCode::NotARegularFile,
    },
];

impl Part {
    fn expected(&self, what: &str) -> FaultCode {
        match what {
            "nothing" => self.gone,
            "a directory" => self.empty,
            _ => self.other,
        }
    }
}

fn copied() -> Operation {
    Operation::CopyVolume(CopyVolume {
        source: address(domain(), 1),
        target: address(other_domain(), 3),
        ..copy(VolumeFormat::Raw, Allocation::Sparse)
    })
}

/// With one volume, its neighbour, and another domain; the part moved away, and something put there.
fn place(part: &Part, put: Put) -> Option<Place> {
    let place = Place::new();
    for n in [1, 2] {
        place.must(&create(n, VolumeFormat::Cow, Allocation::Sparse), n);
    }
    place.root().create_domain(other_domain(), "other").unwrap();
    place.bench.heal();
    let path = (part.path)(&place);
    fs::rename(&path, place.path("moved")).unwrap();
    put(&path).then_some(place)
}

/// Runs `work` where it cannot hold up the test.
fn at_once(how: String, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match ended.recv_timeout(PATIENCE) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{how}: a call does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panicked = worker.join().err();
            let text = panicked.and_then(|p| p.downcast_ref::<String>().cloned());
            panic!("{how}: {}", text.unwrap_or_default());
        }
    }
}

fn everywhere(parts: &'static [Part], check: fn(&str, &Place, FaultCode)) {
    for part in parts {
        for (what, put) in PUT {
            let how = format!("{what} instead of {}", part.name);
            let Some(place) = place(part, put) else {
                skipped(&how);
                continue;
            };
            let expected = part.expected(what);
            let named = how.clone();
            at_once(how, move || {
                check(&named, &place, expected);
                the_other_domain_goes_on(&place);
                let path = (part.path)(&place);
                assert!(place.path("moved").exists());
                assert_eq!(
                    path.symlink_metadata().is_ok(),
                    what != "nothing",
                    "it is as it was"
                );
            });
        }
    }
}

fn the_other_domain_goes_on(place: &Place) {
    let listed = place.root().domains().unwrap();
    let other = listed.iter().find(|listed| listed.id == other_domain()).unwrap();
    assert_eq!(other.info.as_ref().unwrap().name, "other");
    let Operation::CreateVolume(mut creation) = create(5, VolumeFormat::Cow, Allocation::Sparse) else {
        unreachable!("it is a creation")
    };
    creation.domain_id = other_domain();
    place.must(&Operation::CreateVolume(creation), 8);
}

/// With the code, and a sentence that says what it is about.
fn is(fault: Option<Fault>, expected: FaultCode, how: &str) {
    let fault = fault.unwrap_or_else(|| panic!("{how}: no fault"));
    assert_eq!(fault.code, expected, "{how}: {fault:?}");
    let about = [domain().to_string(), image(1).to_string(), volume(1).to_string()];
    let named = about
        .iter()
        .any(|id| fault.message.contains(id) && fault.subject.contains(id));
    assert!(named, "{how}: {fault:?}");
}

fn fault_of(ran: Ran) -> Option<Fault> {
    match ran {
        Ran::Ill(fault) => Some(fault),
        Ran::Well | Ran::Killed => None,
    }
}

#[test]
fn a_domain_of_which_a_part_is_something_else_is_a_clear_error_at_once() {
    everywhere(&OF_THE_DOMAIN, |how, place, expected| {
        // An image that is not there is no fault of the domain's.
        let of_the_image = expected == FaultCode::ImageNotFound;
        let listed = place.root().domains().unwrap();
        let bad = listed.iter().find(|listed| listed.id == domain());
        match expected {
            FaultCode::DomainNotFound => assert!(bad.is_none(), "{how}"),
            _ if of_the_image => assert!(bad.unwrap().info.is_ok(), "{how}"),
            _ => is(bad.unwrap().info.clone().err(), expected, how),
        }
        is(place.root().volumes(domain(), image(1)).err(), expected, how);
        is(
            place.root().volume(domain(), image(1), volume(1)).err(),
            expected,
            how,
        );
        is(fault_of(place.run(&copied(), task(4))), expected, how);
        is(fault_of(place.run(&delete(1), task(5))), expected, how);
        if !of_the_image {
            is(place.root().images(domain()).err(), expected, how);
            let made = create(6, VolumeFormat::Raw, Allocation::Sparse);
            is(fault_of(place.run(&made, task(6))), expected, how);
            is(place.root().format_domain(domain(), true).err(), expected, how);
        }
    });
}

#[test]
fn an_image_of_which_a_part_is_something_else_is_a_clear_error_at_once() {
    everywhere(&OF_THE_IMAGE, |how, place, expected| {
        let of_the_volume = place.image(1).is_dir() && !place.image(1).is_symlink();
        let names = place.root().images(domain()).unwrap();
        let images = if expected == FaultCode::ImageNotFound {
            1
        } else {
            2
        };
        assert_eq!(names.len(), images, "{how}: {names:?}");
        if of_the_volume && expected != FaultCode::VolumeNotFound {
            // It is listed with what is wrong with it.
            let listed = place.root().volumes(domain(), image(1)).unwrap();
            assert_eq!(listed.len(), 1, "{how}");
            is(listed[0].fault.clone(), expected, how);
            let got = place.root().volume(domain(), image(1), volume(1)).unwrap();
            is(got.fault, expected, how);
        } else {
            let got = place.root().volume(domain(), image(1), volume(1));
            is(got.err(), expected, how);
        }
        let neighbour = place.root().volume(domain(), image(2), volume(2)).unwrap();
        assert_eq!(neighbour.fault, None, "{how}");
        is(fault_of(place.run(&copied(), task(4))), expected, how);
        place.must(&create(6, VolumeFormat::Raw, Allocation::Sparse), 6);
    });
}

#[test]
fn an_image_is_deleted_where_only_its_own_are_in_it_and_left_alone_otherwise() {
    everywhere(&OF_THE_IMAGE, |how, place, expected| {
        let ran = place.run(&delete(1), task(5));
        let half = how.starts_with("nothing instead of the ") && !how.ends_with("image");
        if half || expected == FaultCode::VolumeNotFound {
            assert_eq!(ran, Ran::Well, "{how}");
            assert!(!place.image(1).exists(), "{how}");
            // Whoever looks next expects what was there.
            if !half {
                fs::create_dir(place.image(1)).unwrap();
            }
            return;
        }
        is(fault_of(ran), expected, how);
    });
}

/// Something mounted, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn make(arguments: &[&str], at: &'a Path) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(at).output();
        done.is_ok_and(|done| done.status.success()).then(|| Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0).status();
        assert!(done.unwrap().success());
    }
}

/// What lies underneath would be taken for deleted. A bound directory is on the device of the domain.
#[test]
fn a_domain_with_a_directory_mounted_over_is_not_worked_in() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    place.bench.heal();
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let bound = ["--bind", empty.to_str().unwrap()];
    for part in ["images", "dom_md"] {
        let at = place.path(&format!("{}/{part}", domain()));
        for arguments in [&["-t", "tmpfs", "none"][..], &bound] {
            let how = format!("{arguments:?} over {part}");
            let Some(mounted) = Mounted::make(arguments, &at) else {
                skipped(&how);
                continue;
            };
            let root = place.root();
            let listed = root.listed(domain()).info.err();
            let read = op::evidence(root, &delete(1)).err();
            for fault in [listed, read] {
                is(fault, FaultCode::StorageReplaced, &how);
            }
            for (n, work) in [
                (2, delete(1)),
                (3, create(3, VolumeFormat::Raw, Allocation::Sparse)),
            ] {
                let fault = fault_of(place.run(&work, task(n)));
                assert!(
                    fault.as_ref().is_some_and(|fault| fault.message.contains(part)),
                    "{how}: {fault:?}"
                );
                is(fault, FaultCode::StorageReplaced, &how);
            }
            assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "{how}");
            drop(mounted);
            assert!(place.image(1).exists(), "{how}");
        }
    }
    place.must(&delete(1), 4);
    assert!(!place.image(1).exists());
}

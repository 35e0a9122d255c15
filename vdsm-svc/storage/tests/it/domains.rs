//! Domains: made whole or not at all, written by one, formatted only where they are ours.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Allocation, FaultCode, VolumeFormat};
use vdsm_storage::StorageRoot;
use vdsm_storage::domain::DirectIo;

use crate::mount::{Mount, skipped};
use crate::support::*;

#[test]
fn a_new_domain_is_laid_out_as_ovirts() {
    let place = Place::new();
    let info = place.root().domain(domain()).unwrap().info().unwrap();
    assert_eq!(
        (info.kind.as_str(), info.class.as_str(), info.role.as_str()),
        ("LOCALFS", "Data", "Regular")
    );
    assert_eq!(
        (info.version, info.block_size_bytes, info.alignment_bytes),
        (5, 512, 1 << 20)
    );
    assert_eq!((info.read_only, info.pools), (None, vec![]));
    assert!(info.free_bytes > 0 && info.free_bytes <= info.total_bytes);
    assert!(matches!(
        info.direct_io,
        DirectIo::Steps(512 | 4096) | DirectIo::Unsupported
    ));
    for (name, bytes) in [
        ("ids", 0),
        ("leases", 0),
        ("inbox", 16 * MIB),
        ("outbox", 16 * MIB),
    ] {
        let file = fs::metadata(place.path(&format!("{}/dom_md/{name}", domain()))).unwrap();
        assert_eq!((file.len(), file.mode() & 0o7777), (bytes, 0o660), "{name}");
        assert_eq!(file.blocks(), 0, "{name} is a hole");
    }
    let names: Vec<_> = fs::read_dir(place.temp.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, [domain().to_string().as_str()], "nothing else is left");
}

#[test]
fn making_it_again_changes_nothing_and_making_another_is_refused() {
    let place = Place::new();
    let info = place.root().create_domain(domain(), "tests").unwrap();
    assert_eq!(info.name, "tests");
    let fault = place.root().create_domain(domain(), "other").unwrap_err();
    assert_eq!(fault.code, FaultCode::DomainExists);
    let nameless = place.root().create_domain(domain(), "").unwrap_err();
    assert_eq!(nameless.code, FaultCode::InvalidArgument);
}

#[test]
fn storage_keeps_as_much_of_a_long_name_as_vdsm_would() {
    let place = Place::bare();
    let name = "ö".repeat(255);
    let info = place.root().create_domain(domain(), &name).unwrap();
    assert_eq!(info.name, "ö".repeat(50));
    let again = place.root().create_domain(domain(), &name).unwrap();
    assert_eq!(again.name, info.name, "and it is known again");
}

/// Killed before and after every single change, then done again.
#[test]
fn a_domain_is_made_whole_or_not_at_all() {
    let mut kills = 0;
    for at in 0.. {
        let mut place = Place::bare();
        *place.bench.kill_call.lock().unwrap() = Some(at);
        let work = || place.root().create_domain(domain(), "tests").map(drop);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        place.bench.heal();
        place.reopen();
        for listed in place.root().domains().unwrap() {
            assert_eq!(listed.info.unwrap().name, "tests", "killed at {at}");
        }
        place.root().create_domain(domain(), "tests").unwrap();
        place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
        if done {
            break;
        }
        kills += 1;
    }
    assert!(kills > 20, "{kills}");
}

#[test]
fn only_one_writes_and_the_other_is_told_who() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    let second = StorageRoot::open(place.temp.path(), options(host(), place.temp.path())).unwrap();
    let fault = second.writable(domain()).err().unwrap();
    assert_eq!(fault.code, FaultCode::DomainLocked);
    assert!(fault.message.contains(&host().to_string()), "{}", fault.message);
    assert!(second.domain(domain()).is_ok(), "reading is free");
    drop(place);
}

#[test]
fn formatting_wants_an_empty_domain_or_force() {
    let place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    let fault = place.root().format_domain(domain(), false).unwrap_err();
    assert_eq!(fault.code, FaultCode::DomainNotEmpty);
    place.root().format_domain(domain(), true).unwrap();
    let left: Vec<_> = fs::read_dir(place.temp.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, [".data"], "what is the service's own");
    let fault = place.root().format_domain(domain(), true).unwrap_err();
    assert_eq!(fault.code, FaultCode::DomainNotFound);
    place.root().create_domain(domain(), "again").unwrap();
}

#[test]
fn a_format_that_was_cut_off_is_finished_at_the_next_start() {
    for at in 0.. {
        let mut place = Place::new();
        place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
        *place.bench.kill_call.lock().unwrap() = Some(at);
        let work = || place.root().format_domain(domain(), true);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        place.bench.heal();
        place.reopen();
        let left: Vec<_> = place.root().domains().unwrap();
        assert!(left.iter().all(|l| l.info.is_ok()), "killed at {at}");
        let purging = fs::read_dir(place.temp.path()).unwrap();
        assert!(
            !purging
                .into_iter()
                .any(|e| e.unwrap().file_name().to_string_lossy().contains("purge"))
        );
        if done {
            break;
        }
    }
}

#[test]
fn one_bad_domain_hides_no_other() {
    let place = Place::new();
    let bad = place.path("00000000-0000-4000-8000-000000000bad/dom_md");
    fs::create_dir_all(&bad).unwrap();
    fs::write(bad.join("metadata"), b"").unwrap();
    let listed = place.root().domains().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|l| l.info.is_ok()).count(), 1);
}

#[test]
fn metadata_that_was_changed_by_hand_is_noticed() {
    let place = Place::new();
    let path = place.path(&format!("{}/dom_md/metadata", domain()));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("tests", "testz")).unwrap();
    let fault = place.root().domain(domain()).err().unwrap();
    assert_eq!(fault.code, FaultCode::DomainChecksumMismatch);
}

#[test]
fn a_formatted_domain_that_cannot_be_purged_keeps_no_other_from_being_served() {
    let Some(mount) = Mount::make(&["mkfs.ext4", "-q", "-F"]) else {
        skipped("a root that is mounted read-only");
        return;
    };
    let mut place = Place::at(tempfile::tempdir_in(mount.path()).unwrap());
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    // A format that was cut off after its point of no return.
    place.root().create_domain(other_domain(), "other").unwrap();
    place.bench.heal();
    *place.bench.kill_call.lock().unwrap() = Some(3);
    let work = || place.root().format_domain(other_domain(), true);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err();
    place.close();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(place.temp.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let cut_off = names();
    assert!(
        !cut_off.contains(&other_domain().to_string().into()),
        "{cut_off:?}"
    );
    mount.make_read_only(true);
    let root = StorageRoot::open(place.temp.path(), options(host(), place.temp.path())).unwrap();
    let info = root.domain(domain()).unwrap().info().unwrap();
    assert_eq!(info.name, "tests");
    assert_eq!(root.volumes(domain(), image(1)).unwrap().len(), 1);
    drop(root);
    mount.make_read_only(false);
    assert_eq!(names(), cut_off, "nothing was changed");
    place.bench.heal();
    place.reopen();
    place.must(&delete(1), 2);
}

#[test]
fn a_root_whose_path_would_break_the_metadata_is_refused_in_words() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["a\nb", "a\rb", "a\u{1b}b", "a\u{85}b", "a\u{2028}b"] {
        let path = temp.path().join(name);
        fs::create_dir(&path).unwrap();
        // By another name it is the same directory, and the domain's metadata would hold this one.
        let link = temp.path().join("link");
        symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            let fault = StorageRoot::open(path, options(host(), temp.path()))
                .err()
                .unwrap();
            assert_eq!(fault.code, FaultCode::InvalidArgument, "{name:?}");
            assert!(fault.message.contains("control character"), "{}", fault.message);
            assert!(!fault.message.contains(char::is_control), "{:?}", fault.message);
        }
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn spaces_around_a_name_are_not_kept_and_the_domain_is_known_again() {
    let place = Place::bare();
    let info = place.root().create_domain(domain(), " a b\u{a0} ").unwrap();
    assert_eq!(info.name, "a b");
    let again = place.root().create_domain(domain(), " a b\u{a0} ").unwrap();
    assert_eq!(again.name, info.name);
}

/// Its checksum is another one for VDSM.
#[test]
fn a_domain_of_an_earlier_build_with_a_name_beyond_ascii_is_still_read() {
    let mut place = Place::bare();
    place.root().create_domain(domain(), "Größe").unwrap();
    let path = place.path(&format!("{}/dom_md/metadata", domain()));
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|l| !l.starts_with('_')).collect::<String>();
    let sums = sha1(&lines);
    let sealed: String = text
        .lines()
        .map(|l| {
            if l.starts_with('_') {
                format!("_SHA_CKSUM={sums}\n")
            } else {
                format!("{l}\n")
            }
        })
        .collect();
    assert_ne!(sealed, text);
    fs::write(&path, sealed).unwrap();
    place.reopen();
    assert_eq!(
        place.root().domain(domain()).unwrap().info().unwrap().name,
        "Größe"
    );
}

fn sha1(text: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let output = Command::new("sha1sum").arg(file.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..40].to_owned()
}

/// As anybody may make it who writes to the storage: deeper than paths and open files go, and wide.
#[test]
fn a_deep_tree_is_purged_with_few_open_files() {
    const DEEP: usize = 6_000;
    const WIDE: usize = 3_000;
    let place = Place::new();
    let top = place.images();
    let mut at = fs::File::open(&top).unwrap();
    for n in 0..DEEP {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let next = fs::File::from(rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap());
        if n % 1_000 == 0 {
            // A name that is ours when it is moved up.
            rustix::fs::mkdirat(&next, ".vdsm-purged-7", rustix::fs::Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/etc", &next, "link").unwrap();
        }
        at = next;
    }
    for n in 0..WIDE {
        fs::write(top.join(format!("file-{n}")), b"").unwrap();
    }
    place.root().format_domain(domain(), true).unwrap();
    let left: Vec<_> = fs::read_dir(place.temp.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.is_empty() || left == [".data"], "{left:?}");
    assert!(Path::new("/etc/passwd").exists());
}

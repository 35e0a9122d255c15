//! A handle outlives its name: the root, a domain or its writer's lock is replaced while the service has it open. Work
//! goes on in what stands under the name, and nothing is called a success that is not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::id::HostId;
use common::{Allocation, Fault, FaultCode, Operation, VolumeFormat};
use tempfile::TempDir;
use uuid::Uuid;
use vdsm_storage::{NamedRoot, OpEnd, Options, StorageRoot, op};

use crate::support::*;

/// A root that can be moved, with an empty domain in it.
struct Movable {
    temp: TempDir,
    bench: Arc<Bench>,
    root: NamedRoot,
}

impl Movable {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let bench = Arc::new(Bench::default());
        fs::create_dir(temp.path().join("root")).unwrap();
        let options = Options {
            hook: bench.clone(),
            ..options(host(), temp.path())
        };
        let root = NamedRoot::open(&temp.path().join("root"), options).unwrap();
        root.now().unwrap().create_domain(domain(), "tests").unwrap();
        bench.heal();
        Self { temp, bench, root }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    fn swap(&self, what: &str) -> impl Fn() + Send + use<> {
        let (from, aside, as_it_was) = (self.path(what), self.path("aside"), self.path("as-it-was"));
        move || {
            fs::rename(&from, &aside).unwrap();
            copied(&aside, &from);
            copied(&aside, &as_it_was);
        }
    }
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.unwrap().success());
}

fn raw(n: u128) -> Operation {
    create(n, VolumeFormat::Raw, Allocation::Sparse)
}

fn listed(root: &NamedRoot) -> Vec<common::id::DomainId> {
    let domains = root.now().unwrap().domains().unwrap();
    domains.into_iter().map(|domain| domain.id).collect()
}

#[test]
fn the_root_is_what_its_name_leads_to_and_a_name_that_leads_nowhere_is_said_to() {
    let place = Movable::new();
    let (name, aside) = (place.path("root"), place.path("aside"));
    let held = place.root.now().unwrap();

    fs::rename(&name, &aside).unwrap();
    let fault = place.root.now().err().unwrap();
    assert_eq!(fault.code, FaultCode::StorageRootGone);
    assert!(fault.message.contains(name.to_str().unwrap()), "{fault}");
    fs::write(&name, "no directory").unwrap();
    assert_eq!(place.root.now().err().unwrap().code, FaultCode::StorageRootGone);
    fs::remove_file(&name).unwrap();

    fs::create_dir(&name).unwrap();
    assert_eq!(listed(&place.root), []);
    let fault = place.root.now().unwrap().domain(domain()).err().unwrap();
    assert_eq!(fault.code, FaultCode::DomainNotFound);
    assert!(fault.message.contains("was replaced"), "{fault}");
    place
        .root
        .now()
        .unwrap()
        .create_domain(other_domain(), "new")
        .unwrap();
    assert_eq!(listed(&place.root), [other_domain()]);

    fs::rename(&name, place.path("second")).unwrap();
    fs::rename(&aside, &name).unwrap();
    assert_eq!(listed(&place.root), [domain()]);
    let now = place.root.now().unwrap();
    assert!(Arc::ptr_eq(&now, &held), "it holds its locks still");
    assert_eq!(op::run(&now, &raw(1), task(1), &*place.bench), Ok(()));
}

#[test]
fn a_link_that_is_the_root_is_followed_anew() {
    let place = Movable::new();
    let link = place.path("link");
    std::os::unix::fs::symlink(place.path("root"), &link).unwrap();
    let root = NamedRoot::open(&link, options(host(), place.temp.path())).unwrap();
    assert_eq!(listed(&root), [domain()]);
    fs::create_dir(place.path("other")).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(place.path("other"), &link).unwrap();
    assert_eq!(listed(&root), []);
}

/// What leftovers there are is seen to where a root is opened, not only where the service starts.
#[test]
fn leftovers_of_a_root_that_is_opened_anew_are_looked_at() {
    let place = Movable::new();
    let (welcomed, seen) = std::sync::mpsc::channel();
    place
        .root
        .welcome(move |root| welcomed.send(root.path().to_owned()).unwrap());
    let purged = format!(".vdsm-purge-{}.1", domain());
    fs::rename(place.path("root"), place.path("aside")).unwrap();
    fs::create_dir_all(place.path("root").join(&purged).join("images")).unwrap();
    place.root.now().unwrap();
    assert!(!place.path("root").join(&purged).exists());
    assert_eq!(seen.try_iter().count(), 1);
    place.root.now().unwrap();
    assert_eq!(seen.try_iter().count(), 0, "once");
}

/// The verbs, each with a step before its commit and one after.
fn verbs() -> [(Operation, &'static str, &'static str); 3] {
    let copying = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse));
    [
        (
            raw(1),
            "create_volume.sync_image.after",
            "create_volume.write_meta.after",
        ),
        (
            copying,
            "copy_volume.verify.after",
            "copy_volume.write_meta.after",
        ),
        (
            delete(7),
            "delete_image.check_use.after",
            "delete_image.sync_purged.after",
        ),
    ]
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs `operation` with a swap at `point`, and then concludes: how both ended.
fn swapped(what: fn(&Movable) -> String, operation: &Operation, point: &str) -> (Movable, Fault, OpEnd) {
    let place = Movable::new();
    let root = place.root.now().unwrap();
    assert_eq!(op::run(&root, &raw(7), task(7), &*place.bench), Ok(()));
    place.bench.heal();
    *place.bench.notes.lock().unwrap() = None;
    *place.bench.meanwhile.lock().unwrap() = Some((point.to_owned(), Box::new(place.swap(&what(&place)))));
    let fault = op::run(&root, operation, task(1), &*place.bench).unwrap_err();
    place.bench.heal();
    let note = place.bench.notes.lock().unwrap().clone();
    let end = op::recover(
        &root,
        operation,
        task(1),
        note.as_deref(),
        fault.clone(),
        &*place.bench,
    );
    (place, fault, end)
}

#[test]
fn what_is_made_in_a_root_that_is_no_longer_the_root_is_undone_there_or_said_to_be_left() {
    for (operation, before, after) in verbs() {
        let (place, fault, end) = swapped(|_| "root".to_owned(), &operation, before);
        assert_eq!(fault.code, FaultCode::StorageReplaced, "{before}: {fault}");
        assert_eq!(end, OpEnd::Undone(fault), "{before}");
        let images = place.path(&format!("aside/{}/images", domain()));
        assert_eq!(names(&images), [image(7).to_string()], "{before}");

        let (_, fault, end) = swapped(|_| "root".to_owned(), &operation, after);
        assert_eq!(fault.code, FaultCode::StorageReplaced, "{after}: {fault}");
        let OpEnd::Failed(left) = end else {
            panic!("{after}: {end:?}")
        };
        assert_eq!(left.code, FaultCode::StorageReplaced, "{after}: {left}");
    }
}

#[test]
fn what_is_made_in_a_domain_that_was_replaced_is_no_success_and_the_new_one_is_not_touched() {
    let all: [fn(&Movable) -> String; 3] = [
        |_| format!("root/{}", domain()),
        |_| format!("root/{}/images", domain()),
        |_| format!("root/{}/dom_md", domain()),
    ];
    for what in all {
        for (operation, before, after) in verbs() {
            for point in [before, after] {
                let (place, fault, end) = swapped(what, &operation, point);
                assert_eq!(fault.code, FaultCode::StorageReplaced, "{point}: {fault}");
                let OpEnd::Failed(left) = end else {
                    panic!("{point}: {end:?}")
                };
                assert_eq!(left.code, FaultCode::StorageReplaced, "{point}: {left}");
                assert!(left.message.contains(&task(1).to_string()), "{point}: {left}");
                let same = Command::new("diff")
                    .arg("-r")
                    .args([place.path("as-it-was"), place.path(&what(&place))])
                    .output()
                    .unwrap();
                assert!(same.status.success(), "{point}: {same:?}");
            }
        }
    }
}

/// What a move leaves behind is named, whether the service saw the move or was started anew after it, and nothing that
/// lies elsewhere is called undone or deleted.
#[test]
fn an_image_that_is_moved_while_it_is_made_or_deleted_is_neither_undone_nor_deleted() {
    let aside = |n: u128| format!("_remove_me_{}", image(n));
    let draft = format!("{}/.vdsm-svc-{}", image(1), task(1));
    let copying = Operation::CopyVolume(copy(VolumeFormat::Raw, Allocation::Sparse));
    let cases = [
        (&raw(1), "create_volume.note_staged.after", image(1).to_string()),
        (&raw(1), "create_volume.look.before", draft.clone()),
        (&raw(1), "create_volume.sync_image.after", image(1).to_string()),
        (
            &raw(1),
            "create_volume.sync_image.after",
            format!("{}/{}", image(1), volume(1)),
        ),
        (&copying, "copy_volume.convert.after", copied_image(&copying)),
        (&copying, "copy_volume.verify.after", copied_image(&copying)),
        (&delete(7), "delete_image.note_aside.after", aside(7)),
        (&delete(7), "delete_image.sync_images.after", aside(7)),
    ];
    for (operation, point, what) in &cases {
        for (to, restarted) in [("images/elsewhere", false), ("elsewhere", true)] {
            // Of a file alone a restart cannot tell whether a power cut took it, nor of what was set aside whether a later
            // life than that of its store purged it.
            if restarted && (what.contains('/') || matches!(operation, Operation::DeleteImage(_))) {
                continue;
            }
            let (place, fault, end) = moved(operation, point, what, to, restarted);
            let OpEnd::Failed(left) = end else {
                panic!("{point}, {what}: {end:?} after {fault}")
            };
            assert!(
                [
                    FaultCode::StorageReplaced,
                    FaultCode::UnexpectedFile,
                    FaultCode::GenerationMismatch
                ]
                .contains(&left.code),
                "{point}, {what}: {left}"
            );
            assert!(
                place.path(&format!("root/{}/{to}", domain())).exists(),
                "{point}, {what}"
            );
        }
    }
}

fn copied_image(operation: &Operation) -> String {
    let Operation::CopyVolume(copy) = operation else {
        unreachable!("{operation:?}")
    };
    copy.target.image_id.to_string()
}

/// Runs `operation`; at `point` what stands below the domain's images under `what` is moved to `to` in the domain.
fn moved(
    operation: &Operation,
    point: &str,
    what: &str,
    to: &str,
    restarted: bool,
) -> (Movable, Fault, OpEnd) {
    let mut place = Movable::new();
    let root = place.root.now().unwrap();
    assert_eq!(op::run(&root, &raw(7), task(7), &*place.bench), Ok(()));
    place.bench.heal();
    *place.bench.notes.lock().unwrap() = None;
    let below = |name: &str| place.path(&format!("root/{}/{name}", domain()));
    // As `_remove_me_<image>.1` or the like: what the name begins with.
    let (images, what) = (below("images"), what.to_owned());
    let to = below(to);
    let meanwhile = move || {
        let (parent, name) = match what.split_once('/') {
            Some((image, name)) => (images.join(image), name.to_owned()),
            None => (images.clone(), what.clone()),
        };
        let found = names(&parent).into_iter().find(|found| found.starts_with(&name));
        fs::rename(parent.join(found.unwrap()), &to).unwrap();
    };
    *place.bench.meanwhile.lock().unwrap() = Some((point.to_owned(), Box::new(meanwhile)));
    let fault = op::run(&root, operation, task(1), &*place.bench).unwrap_err();
    place.bench.heal();
    let note = place.bench.notes.lock().unwrap().clone();
    drop(root);
    if restarted {
        // The former one goes, with its locks and with what it knew.
        place.root = NamedRoot::open(&place.path("root"), options(host(), &place.path("root"))).unwrap();
    }
    let root = &place.root.now().unwrap();
    let end = op::recover(
        root,
        operation,
        task(1),
        note.as_deref(),
        fault.clone(),
        &*place.bench,
    );
    (place, fault, end)
}

fn second(place: &Movable) -> StorageRoot {
    let other_host = HostId::from_uuid(Uuid::from_u128(0x4058));
    StorageRoot::open(
        &place.path("root"),
        options(other_host, &place.path("of-the-other")),
    )
    .unwrap()
}

fn lock_file(place: &Movable) -> PathBuf {
    place.path(&format!("root/{}/dom_md/.vdsm-svc-writer", domain()))
}

/// Another file stands under the lock's name, which is free: whoever looks at the name takes that one.
#[test]
fn a_writers_lock_whose_file_was_replaced_is_taken_anew_or_lost_to_whoever_has_it() {
    for gone in [false, true] {
        let place = Movable::new();
        let root = place.root.now().unwrap();
        assert_eq!(op::run(&root, &raw(1), task(1), &*place.bench), Ok(()));
        let replace = |place: &Movable| {
            fs::rename(lock_file(place), place.path("aside")).unwrap();
            if !gone {
                fs::write(lock_file(place), "").unwrap();
            }
            fs::remove_file(place.path("aside")).unwrap();
        };
        replace(&place);
        assert_eq!(op::run(&root, &raw(2), task(2), &*place.bench), Ok(()));
        let other = second(&place);
        let fault = other.writable(domain()).err().unwrap();
        assert_eq!(fault.code, FaultCode::DomainLocked, "it has the new one");

        replace(&place);
        assert!(other.writable(domain()).is_ok());
        let fault = op::run(&root, &raw(3), task(3), &*place.bench).unwrap_err();
        assert_eq!(fault.code, FaultCode::DomainLocked, "{fault}");
        drop(other);
        // A child that another test was just starting may have a copy of it, until its exec.
        let again = (0..100).any(|_| op::run(&root, &raw(3), task(3), &*place.bench).is_ok());
        assert!(again, "it is free");
    }
}

#[test]
fn work_under_way_does_not_commit_under_a_lock_that_another_host_has_by_now() {
    for (operation, before, _) in verbs() {
        let place = Movable::new();
        let root = place.root.now().unwrap();
        assert_eq!(op::run(&root, &raw(7), task(7), &*place.bench), Ok(()));
        *place.bench.notes.lock().unwrap() = None;
        place.bench.heal();
        let (held, has) = std::sync::mpsc::channel();
        let (lock, other) = (lock_file(&place), second(&place));
        let meanwhile = move || {
            fs::remove_file(&lock).unwrap();
            held.send(other.writable(domain()).unwrap()).unwrap();
        };
        *place.bench.meanwhile.lock().unwrap() = Some((before.to_owned(), Box::new(meanwhile)));
        let fault = op::run(&root, &operation, task(1), &*place.bench).unwrap_err();
        assert_eq!(fault.code, FaultCode::DomainLocked, "{before}: {fault}");
        place.bench.heal();
        let note = place.bench.notes.lock().unwrap().clone();
        drop(has);
        // A child that just starts may have a copy of the other's lock until it is its program.
        let undone = OpEnd::Undone(fault.clone());
        let undo = || {
            op::recover(
                &root,
                &operation,
                task(1),
                note.as_deref(),
                fault.clone(),
                &*place.bench,
            )
        };
        assert!(soon(|| undo() == undone), "{before}: {:?}", undo());
    }
}

/// The first one that is refused waits for an instant, in which a lock may be a copy in a child that just starts; the
/// others wait with it, or not at all.
#[test]
fn tasks_on_a_domain_that_another_host_holds_are_not_refused_one_after_the_other() {
    const TASKS: u128 = 20;
    let place = Movable::new();
    let other = second(&place);
    let _held = other.writable(domain()).unwrap();
    let root = place.root.now().unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for n in 1..=TASKS {
            let (root, bench) = (&root, &place.bench);
            scope.spawn(move || {
                let fault = op::run(root, &raw(n), task(n), &**bench).unwrap_err();
                assert_eq!(fault.code, FaultCode::DomainLocked);
            });
        }
    });
    for n in 1..=TASKS {
        let fault = op::run(&root, &raw(n), task(n), &*place.bench).unwrap_err();
        assert_eq!(fault.code, FaultCode::DomainLocked);
    }
    // A second each would be forty.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

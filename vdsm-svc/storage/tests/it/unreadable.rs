//! What cannot be told of the processes of a task is said to be so: no error counts as a process, and no wait for one,
//! or for what it leaves open, is without an end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Allocation, FaultCode, VolumeFormat};
use nix::sys::stat::Mode;
use tempfile::TempDir;
use vdsm_storage::confine::StorageUser;
use vdsm_storage::qemu_img::QemuImg;
use vdsm_storage::{OpEnd, Options, StorageRoot, op, run_dir};

use crate::support::*;

const GRACE: Duration = Duration::from_millis(500);

/// Far more than it takes, and far less than the processes that are left live.
const PATIENCE: Duration = Duration::from_secs(60);

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
}

fn run_path(place: &Place) -> PathBuf {
    place.runs().join(task(1).to_string())
}

/// Nothing stands where they stand, and all can be put there.
fn clear(place: &Place) {
    let _ = fs::remove_dir_all(place.runs());
    fs::create_dir_all(place.path(".data")).unwrap();
}

type Put = fn(&Place);

/// What may stand in a run directory's way.
const PUT: [(&str, Put); 7] = [
    ("a file as their directory", |place| {
        fs::write(place.runs(), "").unwrap();
    }),
    ("a link as their directory", |place| {
        symlink("/etc", place.runs()).unwrap();
    }),
    ("a dangling link as their directory", |place| {
        symlink("/nonexistent", place.runs()).unwrap();
    }),
    ("a FIFO as their directory", |place| fifo(&place.runs())),
    ("a file as the task's", |place| {
        fs::create_dir_all(place.runs()).unwrap();
        fs::write(run_path(place), "").unwrap();
    }),
    ("a FIFO as the lock", |place| {
        fs::create_dir_all(run_path(place)).unwrap();
        fifo(&run_path(place).join("lock"));
    }),
    ("a directory as the lock", |place| {
        fs::create_dir_all(run_path(place).join("lock")).unwrap();
    }),
];

#[test]
fn what_stands_in_the_way_of_a_run_directory_fails_the_task_with_its_own_words_and_is_undone() {
    for (what, put) in PUT {
        let place = Place::new();
        clear(&place);
        put(&place);
        let before = place.contents();
        let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
        let Ran::Ill(fault) = place.run(&operation, task(1)) else {
            panic!("{what}: it ran")
        };
        assert_eq!(fault.code, FaultCode::NotARegularFile, "{what}: {fault}");
        assert!(fault.message.contains(".data/run"), "{what}: {fault}");
        assert_eq!(
            run_dir::kill_leftovers(place.root(), task(1), GRACE),
            Ok(()),
            "{what}"
        );
        let end = place.recover(&operation, task(1), fault.clone()).unwrap();
        assert_eq!(end, OpEnd::Undone(fault), "{what}");
        assert_eq!(place.contents(), before, "{what}");
    }
}

/// After a restart nobody knows whether a process was started: the task is not undone, and says why.
#[test]
fn after_a_restart_an_unreadable_run_directory_is_told_as_what_it_is() {
    for (what, put) in PUT {
        let mut place = Place::new();
        let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
        *place.bench.kill_at.lock().unwrap() = Some("create_volume.create_file.after".into());
        assert_eq!(place.run(&operation, task(1)), Ran::Killed);
        place.bench.heal();
        place.reopen();
        let before = place.contents();
        clear(&place);
        put(&place);
        let fault = run_dir::kill_leftovers(place.root(), task(1), GRACE).unwrap_err();
        assert_eq!(fault.code, FaultCode::NotARegularFile, "{what}: {fault}");
        let end = place.recover(&operation, task(1), interrupted()).unwrap();
        assert!(
            matches!(&end, OpEnd::Failed(left) if left.code == FaultCode::NotARegularFile),
            "{what}: {end:?}"
        );
        assert_eq!(place.contents(), before, "{what}");

        // The others are told all the same, and nothing of it is called a process.
        let told = run_dir::orphans(place.root(), &|_| false);
        assert_eq!(told.tasks, [], "{what}");
        assert_eq!(told.unreadable.len(), 1, "{what}: {told:?}");
        run_dir::sweep(place.root(), &|t| t == task(1)).err();

        let _ = fs::remove_file(place.runs());
        let _ = fs::remove_dir_all(place.runs());
        let end = place.recover(&operation, task(1), interrupted()).unwrap();
        assert_eq!(end, OpEnd::Undone(interrupted()), "{what}");
    }
}

/// A verb that starts no process does not look for one.
#[test]
fn a_deletion_is_concluded_whatever_stands_in_the_way_of_run_directories() {
    let mut place = Place::new();
    place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 1);
    *place.bench.kill_at.lock().unwrap() = Some("delete_image.sync_images.after".into());
    assert_eq!(place.run(&delete(1), task(2)), Ran::Killed);
    place.bench.heal();
    place.reopen();
    clear(&place);
    fs::write(place.runs(), "").unwrap();
    let end = place.recover(&delete(1), task(2), interrupted()).unwrap();
    assert_eq!(end, OpEnd::Finished);
}

fn root_with(program_name: &str) -> ((TempDir, TempDir), StorageRoot, Arc<Bench>) {
    let temp = TempDir::new().unwrap();
    let (folder, qemu_img) = double(program_name, program_name);
    let bench = Arc::new(Bench::default());
    let options = Options {
        qemu_img,
        // Some leave processes behind.
        confiner: unfiltered(),
        ..options(host(), temp.path())
    };
    let root = StorageRoot::open(temp.path(), options).unwrap();
    root.create_domain(domain(), "tests").unwrap();
    ((temp, folder), root, bench)
}

#[test]
fn a_process_that_a_child_leaves_behind_holds_up_nobody() {
    for name in ["qemu-img-with-grandchild", "qemu-img-with-daemon"] {
        let began = Instant::now();
        let (_folder, program) = double("qemu-img-with-grandchild", "qemu-img");
        QemuImg::new(program, unfiltered(), StorageUser::default())
            .probe()
            .unwrap();
        let (_temp, root, bench) = root_with(name);
        let operation = create(1, VolumeFormat::Cow, Allocation::Sparse);
        assert_eq!(op::run(&root, &operation, task(1), &*bench), Ok(()), "{name}");
        assert!(began.elapsed() < PATIENCE, "{name}: {:?}", began.elapsed());
    }
}

/// Under a filter of calls no such process can be made; this is for machines that have none.
#[test]
fn a_process_that_a_child_left_behind_and_that_can_write_to_what_was_made_fails_the_task() {
    let (_temp, root, bench) = root_with("qemu-img-lingering");
    let operation = create(1, VolumeFormat::Cow, Allocation::Sparse);
    let fault = op::run(&root, &operation, task(1), &*bench).unwrap_err();
    assert_eq!(fault.code, FaultCode::QemuImgFailed, "{fault}");
    assert!(
        fault
            .message
            .contains("still has the file that it made open for writing"),
        "{fault}"
    );
    let note = bench.notes.lock().unwrap().clone();
    let end = op::recover(
        &root,
        &operation,
        task(1),
        note.as_deref(),
        fault.clone(),
        &*bench,
    );
    assert_eq!(end, OpEnd::Undone(fault));
}

#[test]
fn a_child_that_a_limit_on_files_has_ended_is_told_as_that() {
    let (_temp, root, bench) = root_with("qemu-img-too-large");
    let operation = create(1, VolumeFormat::Cow, Allocation::Sparse);
    let fault = op::run(&root, &operation, task(1), &*bench).unwrap_err();
    assert_eq!(fault.code, FaultCode::FileTooLarge, "{fault}");
    let note = bench.notes.lock().unwrap().clone();
    let end = op::recover(
        &root,
        &operation,
        task(1),
        note.as_deref(),
        fault.clone(),
        &*bench,
    );
    assert_eq!(end, OpEnd::Undone(fault));
}

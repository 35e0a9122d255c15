//! Processes of a task: ended with it, found again without it, and never mistaken for another.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use common::{Allocation, FaultCode, VolumeFormat};
use tempfile::TempDir;
use vdsm_storage::confine::{Confiner, StorageUser};
use vdsm_storage::qemu_img::{MINIMUM, QemuImg};
use vdsm_storage::{OpEnd, Options, StorageRoot, op, run_dir};

use crate::support::*;

const GRACE: Duration = Duration::from_millis(500);

fn root_with(program_name: &str, confiner: Confiner) -> ((TempDir, TempDir), StorageRoot, Arc<Bench>) {
    let temp = TempDir::new().unwrap();
    let (folder, qemu_img) = double(program_name, program_name);
    let bench = Arc::new(Bench::default());
    let options = Options {
        qemu_img,
        confiner,
        ..options(host(), temp.path())
    };
    let root = StorageRoot::open(temp.path(), options).unwrap();
    root.create_domain(domain(), "tests").unwrap();
    ((temp, folder), root, bench)
}

/// Runs a creation with a program that never ends, aborts it, and returns how long the end took.
fn abort_while_it_runs(program_name: &str) -> Duration {
    let (_temp, root, bench) = root_with(program_name, confiner());
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    thread::scope(|scope| {
        let running = scope.spawn(|| op::run(&root, &operation, task(1), &*bench));
        while !run_dir::is_alive(&root, task(1)).unwrap() {
            thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        bench.aborted.store(true, Ordering::SeqCst);
        let fault = running.join().unwrap().unwrap_err();
        assert_eq!(fault.code, FaultCode::Aborted);
        let took = asked.elapsed();
        // A fork of another test may hold a copy of the lock until its exec.
        assert!(
            soon(|| !run_dir::is_alive(&root, task(1)).unwrap()),
            "a process is left"
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
        took
    })
}

/// It hears SIGTERM: nobody waits until it would be killed. A busy machine may be late, but not each time.
#[test]
fn an_abort_ends_the_child() {
    assert!((0..5).any(|_| abort_while_it_runs("qemu-img-slow") < Duration::from_secs(4)));
}

#[test]
fn a_child_that_does_not_listen_is_killed() {
    assert!(abort_while_it_runs("qemu-img-stubborn") < Duration::from_secs(12));
}

/// Where there is no filter of calls, a child may start others.
#[test]
fn an_abort_ends_the_whole_group_of_a_child() {
    let (temp, root, bench) = root_with("qemu-img-in-company", unfiltered());
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    thread::scope(|scope| {
        let running = scope.spawn(|| op::run(&root, &operation, task(1), &*bench));
        let record = temp.0.path().join(format!(".data/run/{}/child", task(1)));
        let mut group = Vec::new();
        let begun = soon(|| {
            group = fs::read_to_string(&record).map_or(Vec::new(), |text| group_of(&text));
            group.len() == 2
        });
        bench.aborted.store(true, Ordering::SeqCst);
        assert!(begun, "{group:?}");
        let fault = running.join().unwrap().unwrap_err();
        assert_eq!(fault.code, FaultCode::Aborted);
        for pid in group {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            // Its new parent may not have asked for its end yet.
            assert!(
                stat.map_or(true, |stat| stat.contains(") Z ")),
                "a process is left"
            );
        }
    });
}

/// All of the group that a recorded child leads.
fn group_of(record: &str) -> Vec<u32> {
    let leader = record.split(' ').next().unwrap_or_default();
    let is_member = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned());
        fields.is_some_and(|rest| rest.split_ascii_whitespace().nth(2) == Some(leader))
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_member)
        .collect()
}

#[test]
fn a_failure_names_the_command_line_the_status_and_what_was_said() {
    let (_temp, root, bench) = root_with("qemu-img-failing", confiner());
    let operation = create(1, VolumeFormat::Cow, Allocation::Sparse);
    let fault = op::run(&root, &operation, task(1), &*bench).unwrap_err();
    assert_eq!(fault.code, FaultCode::QemuImgFailed);
    for part in ["qemu-img create -f qcow2", "exit status 3", "the reason"] {
        assert!(fault.message.contains(part), "{}", fault.message);
    }
}

#[test]
fn the_version_is_known_and_an_old_one_is_refused() {
    let probe = |program| QemuImg::new(program, confiner(), StorageUser::default()).probe();
    assert!(probe("qemu-img".into()).unwrap() >= MINIMUM);
    let (_folder, old) = double("qemu-img-old", "qemu-img");
    let fault = probe(old).unwrap_err();
    assert_eq!(fault.code, FaultCode::QemuImgMissing);
    assert!(fault.message.contains("5.2"), "{}", fault.message);
}

/// A child of a service that was killed: it holds the task's lock as its standard input, and works on storage.
struct Orphan {
    child: Child,
}

impl Orphan {
    fn of(place: &Place, record: Option<&str>) -> Self {
        Self::in_runs(&place.runs(), place, 0o600, record)
    }

    /// As an earlier build left them: its locks lay on storage, and were everybody's who writes there.
    fn of_an_earlier_build(place: &Place, record: Option<&str>) -> Self {
        Self::in_runs(&place.path(".vdsm-run"), place, 0o660, record)
    }

    fn in_runs(runs: &Path, place: &Place, mode: u32, record: Option<&str>) -> Self {
        let dir = runs.join(task(1).to_string());
        fs::create_dir_all(&dir).unwrap();
        let lock = File::create_new(dir.join("lock")).unwrap();
        lock.set_permissions(Permissions::from_mode(mode)).unwrap();
        lock.try_lock().unwrap();
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::from(lock))
            .stdout(File::create(place.path(".draft")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        if let Some(record) = record {
            fs::write(dir.join("child"), record).unwrap();
        }
        Self { child }
    }

    /// It has given its lock back just before that.
    fn ends(&mut self) -> bool {
        soon(|| self.child.try_wait().unwrap().is_some())
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_is_undone_while_a_process_of_the_task_is_left() {
    let place = Place::new();
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.create_file.after".into());
    assert_eq!(place.run(&operation, task(1)), Ran::Killed);
    place.bench.heal();
    let before = place.contents();
    let mut orphan = Orphan::of(&place, None);

    let end = place.recover(&operation, task(1), interrupted()).unwrap();
    let OpEnd::Failed(fault) = end else {
        panic!("{end:?}")
    };
    assert_eq!(fault.code, FaultCode::ProcessStuck);
    assert_eq!(place.contents(), before);

    run_dir::kill_leftovers(place.root(), task(1), GRACE).unwrap();
    assert!(orphan.ends());
    let end = place.recover(&operation, task(1), interrupted()).unwrap();
    assert_eq!(end, OpEnd::Undone(interrupted()));
    assert!(!place.runs().join(task(1).to_string()).exists());
}

#[test]
fn an_orphans_writer_is_found_until_it_ends() {
    let place = Place::new();
    assert_eq!(run_dir::orphans(place.root(), &|_| false).tasks, []);
    let orphan = Orphan::of(&place, None);
    assert_eq!(run_dir::orphans(place.root(), &|_| false).tasks, [task(1)]);
    assert_eq!(run_dir::orphans(place.root(), &|t| t == task(1)).tasks, []);
    run_dir::sweep(place.root(), &|_| false).unwrap();
    assert_eq!(
        run_dir::orphans(place.root(), &|_| false).tasks,
        [task(1)],
        "a live one is not swept"
    );
    drop(orphan);
    // A child that another test was just starting may have had a copy of the lock, until its exec.
    assert!(soon(|| run_dir::orphans(place.root(), &|_| false)
        .tasks
        .is_empty()));
    let runs = place.runs().join(task(1).to_string());
    run_dir::sweep(place.root(), &|t| t == task(1)).unwrap();
    assert!(runs.exists(), "a task that is known keeps its own");
    // Such a child may have had one of the look above as well.
    assert!(soon(|| {
        run_dir::sweep(place.root(), &|_| false).unwrap();
        !runs.exists()
    }));
}

/// The recorded number was given to another process since, in this boot or before it: that one is left alone.
#[test]
fn a_number_that_was_given_away_is_not_signalled() {
    for boot in ["this", "another"] {
        let place = Place::new();
        let mut bystander = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let boot_id = match boot {
            "this" => fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap(),
            _ => "00000000-0000-4000-8000-00000000b007".to_owned(),
        };
        let record = format!("{} 1 {boot_id}", bystander.id());
        let mut orphan = Orphan::of(&place, Some(&record));
        run_dir::kill_leftovers(place.root(), task(1), GRACE).unwrap();
        assert!(orphan.ends());
        assert!(bystander.try_wait().unwrap().is_none(), "{boot} boot");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

/// One that was recorded and runs still, in this boot and since then, but does not hold the lock of the task: the record
/// alone decides nothing.
#[test]
fn a_process_that_is_recorded_and_does_not_hold_the_lock_is_not_signalled() {
    let place = Place::new();
    let mut bystander = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", bystander.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_ascii_whitespace().nth(19).unwrap();
    let record = format!("{} {ticks} {boot}", bystander.id());
    let mut orphan = Orphan::of(&place, Some(&record));
    run_dir::kill_leftovers(place.root(), task(1), GRACE).unwrap();
    assert!(orphan.ends());
    // Of two signals that of the lower number is taken first: whoever was signalled before ends by that.
    let pid = rustix::process::Pid::from_child(&bystander);
    rustix::process::kill_process(pid, rustix::process::Signal::IO).unwrap();
    let ended = bystander.wait().unwrap().signal();
    assert_eq!(ended, Some(rustix::process::Signal::IO.as_raw()));
}

/// A process that has such a file as its standard input without holding its lock, as whoever reads it may, is no child.
#[test]
fn a_file_that_is_not_locked_makes_nobody_a_child() {
    let place = Place::new();
    let dir = place.runs().join(task(1).to_string());
    fs::create_dir_all(&dir).unwrap();
    let lock = File::create_new(dir.join("lock")).unwrap();
    lock.set_permissions(Permissions::from_mode(0o600)).unwrap();
    let mut reader = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::from(lock))
        .stdout(File::create(place.path(".draft")).unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    let is_alive = run_dir::is_alive(place.root(), task(1)).unwrap();
    let ended = run_dir::kill_leftovers(place.root(), task(1), GRACE);
    let is_left_alone = reader.try_wait().unwrap().is_none();
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(!is_alive && is_left_alone);
    assert_eq!(ended, Ok(()));
}

/// A zombie has released its lock: it is not alive.
#[test]
fn a_zombie_is_not_alive() {
    let place = Place::new();
    let orphan = Orphan::of(&place, None);
    let pid = rustix::process::Pid::from_child(&orphan.child);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while run_dir::is_alive(place.root(), task(1)).unwrap() {
        thread::sleep(Duration::from_millis(5));
    }
    // It gives the lock back just before it is one.
    assert!(soon(|| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", orphan.child.id())).unwrap();
        stat.contains(") Z ")
    }));
    assert!(!run_dir::is_alive(place.root(), task(1)).unwrap());
    run_dir::remove(place.root(), task(1)).unwrap();
}

/// What an earlier build left in the storage root when it was killed is ended, undone and removed.
#[test]
fn a_crash_of_an_earlier_build_is_cleaned_up() {
    let place = Place::new();
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.create_file.after".into());
    assert_eq!(place.run(&operation, task(1)), Ran::Killed);
    place.bench.heal();
    let mut orphan = Orphan::of_an_earlier_build(&place, None);
    assert!(run_dir::is_alive(place.root(), task(1)).unwrap());
    assert_eq!(run_dir::orphans(place.root(), &|_| false).tasks, [task(1)]);
    let end = place.recover(&operation, task(1), interrupted()).unwrap();
    assert!(
        matches!(&end, OpEnd::Failed(fault) if fault.code == FaultCode::ProcessStuck),
        "{end:?}"
    );

    run_dir::kill_leftovers(place.root(), task(1), GRACE).unwrap();
    assert!(orphan.ends());
    let end = place.recover(&operation, task(1), interrupted()).unwrap();
    assert_eq!(end, OpEnd::Undone(interrupted()));
    assert!(!place.path(".vdsm-run").exists());
}

/// Whatever stands in the storage root where earlier builds kept their run directories: it names nobody to be killed,
/// and keeps nobody waiting.
#[test]
fn what_is_forged_on_storage_kills_nobody_and_holds_up_nobody() {
    let place = Place::new();
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.create_file.after".into());
    assert_eq!(place.run(&operation, task(1)), Ran::Killed);
    place.bench.heal();
    let dir = place.path(&format!(".vdsm-run/{}", task(1)));
    fs::create_dir_all(&dir).unwrap();
    let mut bystander = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", bystander.id())).unwrap();
    let ticks = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_ascii_whitespace()
        .nth(19)
        .unwrap()
        .to_owned();
    for pid in [
        bystander.id().to_string(),
        "1".to_owned(),
        "0".to_owned(),
        "-1".to_owned(),
    ] {
        fs::write(dir.join("child"), format!("{pid} {ticks} {boot}")).unwrap();
        // Held by somebody, but not as a child of ours holds it.
        let lock = File::create(dir.join("lock")).unwrap();
        lock.lock().unwrap();
        assert!(!run_dir::is_alive(place.root(), task(1)).unwrap());
        assert_eq!(run_dir::orphans(place.root(), &|_| false).tasks, []);
        assert_eq!(run_dir::kill_leftovers(place.root(), task(1), GRACE), Ok(()));
        assert!(bystander.try_wait().unwrap().is_none(), "{pid}");
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    let end = place.recover(&operation, task(1), interrupted()).unwrap();
    assert_eq!(end, OpEnd::Undone(interrupted()));
}

/// As a member of the storage's group may do: a process of the storage's user that has the lock of an earlier build as
/// its standard input, or a lock of its own by that name.
#[test]
fn a_lock_of_somebody_else_is_no_childs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: another user's process, for we are not root");
        return;
    }
    for runs in [".vdsm-run", "run"] {
        let place = Place::new();
        let dir = place.path(runs).join(task(1).to_string());
        fs::create_dir_all(&dir).unwrap();
        let lock = File::create(dir.join("lock")).unwrap();
        std::os::unix::fs::chown(dir.join("lock"), Some(36), Some(36)).unwrap();
        lock.set_permissions(Permissions::from_mode(0o600)).unwrap();
        lock.lock().unwrap();
        let mut forger = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::from(lock))
            .stdout(File::create(place.path(".draft")).unwrap())
            .uid(36)
            .gid(36)
            .spawn()
            .unwrap();
        assert!(!run_dir::is_alive(place.root(), task(1)).unwrap(), "{runs}");
        assert_eq!(run_dir::orphans(place.root(), &|_| false).tasks, [], "{runs}");
        assert_eq!(run_dir::kill_leftovers(place.root(), task(1), GRACE), Ok(()));
        assert!(forger.try_wait().unwrap().is_none(), "{runs}");
        forger.kill().unwrap();
        forger.wait().unwrap();
    }
}

/// The data directory is lost, or an older copy of it is put back, while a child works: it is found all the same.
#[test]
fn a_child_of_a_lost_data_directory_is_found_and_ended() {
    for lost in [true, false] {
        let mut place = Place::new();
        let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
        *place.bench.kill_at.lock().unwrap() = Some("create_volume.create_file.after".into());
        assert_eq!(place.run(&operation, task(1)), Ran::Killed);
        place.bench.heal();
        let mut orphan = Orphan::of(&place, None);
        place.close();
        let (data, aside) = (place.path(".data"), place.path(".aside"));
        if lost {
            fs::remove_dir_all(&data).unwrap();
        } else {
            fs::rename(&data, &aside).unwrap();
            let copied = Command::new("cp")
                .arg("-a")
                .args([&aside, &data])
                .status()
                .unwrap();
            assert!(copied.success());
        }
        place.reopen();
        assert!(run_dir::is_alive(place.root(), task(1)).unwrap());
        assert_eq!(run_dir::orphans(place.root(), &|_| false).tasks, [task(1)]);
        assert_eq!(run_dir::orphans(place.root(), &|t| t == task(1)).tasks, []);
        // One that works in another storage root is none of this one's.
        let elsewhere = Place::new();
        assert_eq!(run_dir::orphans(elsewhere.root(), &|_| false).tasks, []);
        let end = place.recover(&operation, task(1), interrupted()).unwrap();
        assert!(
            matches!(&end, OpEnd::Failed(fault) if fault.code == FaultCode::ProcessStuck),
            "{end:?}"
        );
        run_dir::kill_leftovers(place.root(), task(1), GRACE).unwrap();
        assert!(orphan.ends());
        let end = place.recover(&operation, task(1), interrupted()).unwrap();
        assert_eq!(end, OpEnd::Undone(interrupted()));
    }
}

/// Nobody else can open what decides about processes.
#[test]
fn run_directories_are_nobodys_but_the_services() {
    let place = Place::new();
    *place.bench.kill_at.lock().unwrap() = Some("create_volume.qemu_img.after".into());
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    assert_eq!(place.run(&operation, task(1)), Ran::Killed);
    let run = place.runs().join(task(1).to_string());
    for (path, mode) in [
        (place.runs(), 0o700),
        (run.clone(), 0o700),
        (run.join("lock"), 0o600),
        (run.join("child"), 0o600),
    ] {
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{}", path.display());
        assert_eq!(
            std::os::unix::fs::MetadataExt::uid(&found),
            rustix::process::geteuid().as_raw()
        );
    }
    assert!(!place.path(".vdsm-run").exists());
}

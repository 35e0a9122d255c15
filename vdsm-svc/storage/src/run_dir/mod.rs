//! Run directories: `<data directory>/run/<task>/`, by which the processes of a task are known.
//!
//! In each lies a locked file that every child of the task has as its standard input. The lock is free when,
//! and only when, no process of the task is left, whatever became of the service. They are nobody's but the service's:
//! what decides about processes does not lie where others write. A service that lost its data directory finds the
//! processes of the lost one by the locks that they hold (`holder`).

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{ErrorKind, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::id::TaskId;
use common::{Fault, FaultCode};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal};

use crate::file::{Dir, FileError};
use crate::process::{self, PidFd};
use crate::root::StorageRoot;

mod holder;
mod old;

use holder::{Holder, Proof};

/// The file that is locked.
const LOCK: &str = "lock";

/// Who the child is: its number, when it was started, and in which boot.
const CHILD: &str = "child";

/// How often a lock is tried while its holder is given time to end.
const LOOK: Duration = Duration::from_millis(20);

/// Between a fork and its exec, a child of another thread holds copies of all our files for an instant: a lock
/// that is held longer than this is held by a process of the task.
const INSTANT: Duration = Duration::from_secs(2);

/// Where no such process is seen, on a machine that is very busy.
const COPY: Duration = Duration::from_secs(30);

/// How long a process may take to end after SIGKILL before it counts as stuck.
const STUCK: Duration = Duration::from_secs(10);

/// A task's run directory, its lock held.
pub(crate) struct RunDir {
    /// None where the data directory's disk is full: then the lock has no name, and its holders are found all the same.
    dir: Option<Dir>,
    /// Open for reading only: children have it as their standard input, and could fill the data directory's disk.
    lock: File,
}

impl RunDir {
    /// Makes and locks it.
    ///
    /// # Errors
    /// `PROCESS_STUCK` where a process of the task is still there; those of the file system.
    pub(crate) fn open(root: &StorageRoot, task: TaskId) -> Result<Self, Fault> {
        match Self::open_named(root, task) {
            Err(fault) if matches!(fault.code, FaultCode::NoSpace | FaultCode::QuotaExceeded) => {
                Self::unnamed(task)
            }
            opened => opened,
        }
    }

    /// What was accepted is done also where there is no room for a directory.
    fn unnamed(task: TaskId) -> Result<Self, Fault> {
        let fail = |e: std::io::Error| {
            process::limit(&e).unwrap_or_else(|| {
                Fault::new(FaultCode::Internal, format!("there is no file for a lock: {e}"))
            })
        };
        let name = format!("{}{task}", holder::UNNAMED);
        let lock = memfd_create(&*name, MemfdFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
        let lock = File::from(lock);
        lock.set_permissions(Permissions::from_mode(0o600))
            .map_err(fail)?;
        let lock = File::open(format!("/proc/self/fd/{}", lock.as_raw_fd())).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: None, lock }),
            Err(e) => Err(fail(e.into())),
        }
    }

    fn open_named(root: &StorageRoot, task: TaskId) -> Result<Self, Fault> {
        let runs = make_runs(root.runs())?;
        let name = task.to_string();
        let started = Instant::now();
        loop {
            let opened = Self::try_open(&runs, &name);
            let is_late = || {
                let is_seen = lock_state(root, task).is_ok_and(|lock_state| lock_state == LockState::Held);
                started.elapsed() > if is_seen { INSTANT } else { COPY }
            };
            match opened {
                Ok(Some(run)) => return Ok(run),
                // Another service on this root sweeps, and we came between two of its steps.
                Err(e) if (e.is_missing() || e.is_taken()) && !is_late() => {}
                Err(e) => return Err(e.into()),
                Ok(None) if is_late() => return Err(process::stuck(&format!("a process of task {task}"))),
                Ok(None) => thread::sleep(LOOK),
            }
        }
    }

    /// None where the lock is held, or where whoever held it has removed the directory.
    fn try_open(runs: &Dir, name: &str) -> Result<Option<Self>, FileError> {
        let dir = open_or_make(runs, name)?;
        if dir.stat(LOCK)?.is_none() {
            dir.create_file(LOCK)?;
        }
        let Some(lock) = dir.file(LOCK)? else {
            return Ok(None);
        };
        if !try_lock(&dir, &lock)? {
            return Ok(None);
        }
        let own = lock
            .metadata()
            .map_err(|e| dir.error("look at", LOCK.as_ref(), e))?;
        let in_place = dir.stat(LOCK)?.is_some_and(|stat| stat.st_ino == own.ino());
        Ok(in_place.then_some(Self { dir: Some(dir), lock }))
    }

    /// The lock, for a child to hold.
    pub(crate) fn stdin(&self) -> Result<Stdio, Fault> {
        let lock = self.lock.try_clone().map_err(|source| FileError {
            action: "hand on",
            path: LOCK.into(),
            source,
        })?;
        Ok(lock.into())
    }

    /// Notes who the child is, for signalling it after a restart. Whether it lives is told by the lock alone, so
    /// this needs no sync.
    pub(crate) fn record(&self, pid: u32) -> Result<(), Fault> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let mut file = match dir.file_for_writing(CHILD)? {
            Some(file) => file,
            None => dir.create_file(CHILD)?,
        };
        let fail = |e| dir.error("write", CHILD.as_ref(), e);
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        let started = process::start_ticks(pid).unwrap_or(0);
        let text = format!("{pid} {started} {}\n", process::boot_id());
        match dir.write(CHILD, &file, text.as_bytes()).map_err(Fault::from) {
            // It is for who may not look at the child only, and a full disk ends no work.
            Err(fault) if fault.code != FaultCode::NoSpace => Err(fault),
            _ => Ok(()),
        }
    }
}

/// Removes a task's run directory once no process of it is left. Harmless where there is none.
///
/// # Errors
/// `PROCESS_STUCK` where there still is one; those of the file system.
pub fn remove(root: &StorageRoot, task: TaskId) -> Result<(), Fault> {
    if let Some((runs, dir)) = find(root, task)? {
        // Locked while it goes: whoever wants it meanwhile sees that it is gone, and makes another one.
        let _run = RunDir::open(root, task)?;
        dir.purge()?;
        runs.remove_dir(task.to_string())?;
    }
    old::remove(root, |of| of == task && !is_held_anywhere(root, of));
    Ok(())
}

/// Waits an instant for the task's lock to be free: that no process of it is left.
pub(crate) fn is_quiet(root: &StorageRoot, task: TaskId) -> Result<bool, Fault> {
    freed_within(root, task, INSTANT)
}

/// Whether a process of the task is left.
///
/// # Errors
/// Of the file system.
pub fn is_alive(root: &StorageRoot, task: TaskId) -> Result<bool, Fault> {
    Ok(lock_state(root, task)? != LockState::Free)
}

/// Who holds the lock of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockState {
    Free,
    /// Nobody who is seen: perhaps a copy of it in a child of ours that just begins.
    HeldByNobody,
    Held,
}

fn lock_state(root: &StorageRoot, task: TaskId) -> Result<LockState, Fault> {
    let dir = find(root, task)?.map(|(_, dir)| dir);
    let is_held = dir.as_ref().map_or(Ok(false), is_held)?;
    Ok(if !holders(root, task, dir.as_ref())?.is_empty() {
        LockState::Held
    } else if is_held {
        LockState::HeldByNobody
    } else {
        LockState::Free
    })
}

/// Whoever holds the task's own lock as its standard input, or works in this root with a lock of the task that lies
/// somewhere else: where the data directory was lost, or an older copy of it was put back.
fn holders(root: &StorageRoot, task: TaskId, dir: Option<&Dir>) -> Result<Vec<Holder>, Fault> {
    let lock = dir.map_or(Ok(None), |dir| dir.stat(LOCK))?;
    let own = lock.map(|lock| (lock.st_dev, lock.st_ino));
    let is_ours = |holder: &Holder| {
        holder.task == task && (own == Some(holder.lock) || holder.works_below(root.path()))
    };
    Ok(holder::all(root.path()).0.into_iter().filter(is_ours).collect())
}

fn is_held_anywhere(root: &StorageRoot, task: TaskId) -> bool {
    holders(root, task, None).is_ok_and(|holders| !holders.is_empty())
}

/// Why it cannot be told of a run directory whether a process is left: so many are told, and one more for the rest.
const UNREADABLE_TOLD: usize = 16;

/// What run directories show of tasks that a service does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Those of which a process is left: writers of a service that lost its data directory, or of another one.
    pub tasks: Vec<TaskId>,
    /// Why there may be more: run directories that cannot be read. While there are any, "no other" is not proven.
    pub unreadable: Vec<Fault>,
    /// How many more cannot be read.
    pub unreadable_left_out: usize,
}

impl Orphans {
    /// Nothing can be told, for this reason.
    pub fn unreadable(fault: Fault) -> Self {
        Self {
            tasks: Vec::new(),
            unreadable: vec![fault],
            unreadable_left_out: 0,
        }
    }

    fn cannot_tell(&mut self, fault: Fault) {
        if self.unreadable.len() < UNREADABLE_TOLD {
            self.unreadable.push(fault);
        } else {
            self.unreadable_left_out += 1;
        }
    }
}

/// The tasks that `known` does not know and of which a process is left. A run directory that cannot be read hides no
/// other, and is no process.
pub fn orphans(root: &StorageRoot, known: &dyn Fn(TaskId) -> bool) -> Orphans {
    let mut found = Orphans::default();
    let (holders, hidden) = holder::all(root.path());
    let at_work = holders
        .iter()
        .filter(|holder| !known(holder.task) && holder.works_below(root.path()));
    found.tasks.extend(at_work.map(|holder| holder.task));
    match task_entries(root) {
        Ok(entries) => {
            for task in entries.into_iter().filter(|task| !known(*task)) {
                match is_alive(root, task) {
                    Ok(true) => found.tasks.push(task),
                    Ok(false) => {}
                    Err(fault) => found.cannot_tell(fault.about(task)),
                }
            }
        }
        Err(fault) => found.cannot_tell(fault),
    }
    for pid in hidden.into_iter().filter(|pid| may_be_a_child(root, *pid)) {
        found.cannot_tell(cannot_look(pid));
    }
    found.tasks.sort_unstable();
    found.tasks.dedup();
    found
}

/// A root without the capability to look into other users' processes cannot tell its children from others.
fn may_be_a_child(root: &StorageRoot, pid: Pid) -> bool {
    let user = root.qemu_img().user().uid();
    let stat = std::fs::metadata(format!("/proc/{}", pid.as_raw_nonzero()));
    process::blindness().is_some() && stat.is_ok_and(|stat| stat.uid() == user)
}

fn cannot_look(pid: Pid) -> Fault {
    let pid = pid.as_raw_nonzero();
    Fault::new(
        FaultCode::ResourceLimit,
        format!(
            "cannot determine whether process {pid} of the storage user works for a task: give the service CAP_SYS_PTRACE, or run it as the storage user"
        ),
    )
    .about(pid)
}

/// The tasks after which something in the directory of run directories is named.
fn task_entries(root: &StorageRoot) -> Result<Vec<TaskId>, Fault> {
    let Some(runs) = Dir::open_private(root.runs())? else {
        return Ok(Vec::new());
    };
    let entries = runs.entries()?.into_iter();
    Ok(entries.filter_map(|e| e.name.to_str()?.parse().ok()).collect())
}

/// Removes the run directories of tasks that `known` does not know and of which no process is left. One that
/// cannot be removed is left for the next time.
///
/// # Errors
/// Of the file system, in listing.
pub fn sweep(root: &StorageRoot, known: &dyn Fn(TaskId) -> bool) -> Result<(), Fault> {
    old::remove(root, |task| !known(task) && !is_held_anywhere(root, task));
    for task in task_entries(root)? {
        // One that cannot be read is no reason to leave the others.
        if !known(task) && is_alive(root, task) == Ok(false) {
            let _ = remove(root, task);
        }
    }
    Ok(())
}

/// Ends what is left of a task's processes, SIGTERM first and SIGKILL after `grace`, and waits until none is.
///
/// # Errors
/// `PROCESS_STUCK` where one outlives SIGKILL: nothing may be undone then. Those of the file system, where it cannot be
/// told whether there is one; not for a task that this very process began, and started nothing for.
pub fn kill_leftovers(root: &StorageRoot, task: TaskId, grace: Duration) -> Result<(), Fault> {
    match end_leftovers(root, task, grace) {
        Err(fault) if fault.code != FaultCode::ProcessStuck && root.under_way().never_spawned(task) => Ok(()),
        done => done,
    }
}

fn end_leftovers(root: &StorageRoot, task: TaskId, grace: Duration) -> Result<(), Fault> {
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, STUCK)] {
        if !is_alive(root, task)? {
            return Ok(());
        }
        signal_all(root, task, signal)?;
        if freed_within(root, task, patience)? {
            return Ok(());
        }
    }
    Err(process::stuck(&format!("a process of task {task}")).about(task))
}

fn find(root: &StorageRoot, task: TaskId) -> Result<Option<(Dir, Dir)>, Fault> {
    let Some(runs) = Dir::open_private(root.runs())? else {
        return Ok(None);
    };
    Ok(runs.dir(task.to_string())?.map(|dir| (runs, dir)))
}

fn is_held(dir: &Dir) -> Result<bool, Fault> {
    match dir.file(LOCK)? {
        Some(lock) => Ok(!try_lock(dir, &lock)?),
        None => Ok(false),
    }
}

fn freed_within(root: &StorageRoot, task: TaskId, patience: Duration) -> Result<bool, Fault> {
    let started = Instant::now();
    loop {
        let patience = match lock_state(root, task)? {
            LockState::Free => return Ok(true),
            LockState::Held => patience,
            LockState::HeldByNobody => patience.max(COPY),
        };
        if started.elapsed() > patience {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
}

/// Signals whoever holds the lock of the task as its standard input, with its group. The record may name one more, that
/// we may not look at.
fn signal_all(root: &StorageRoot, task: TaskId, signal: Signal) -> Result<(), Fault> {
    let dir = find(root, task)?.map(|(_, dir)| dir);
    let recorded = dir.as_ref().map_or(Ok(None), recorded)?;
    let holders = holders(root, task, dir.as_ref())?;
    let pids = holders.iter().map(|holder| holder.pid);
    for pid in recorded.into_iter().chain(pids) {
        // Opened first, then looked at again: from here on the handle cannot turn to another process.
        let Some(handle) = PidFd::open(pid) else { continue };
        let is_ours = match holder::look(root.path(), pid) {
            Proof::Holds(found) => holders.contains(&found),
            Proof::Hidden => recorded == Some(pid),
            Proof::Nothing => false,
        };
        if is_ours {
            handle.signal(signal);
            // Its own number is in use as long as anybody is in its group.
            if process::leads_a_group(pid) {
                process::signal_group(pid, signal);
            }
        }
    }
    Ok(())
}

fn recorded(dir: &Dir) -> Result<Option<Pid>, Fault> {
    Ok(dir.read_text(CHILD)?.and_then(|text| holder::recorded(&text)))
}

/// Whether the lock could be had; it is held until the file is closed.
fn try_lock(dir: &Dir, lock: &File) -> Result<bool, FileError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(dir.error("lock", LOCK.as_ref(), e)),
    }
}

/// The directory of run directories, made if it is not there: in the data directory, which is.
fn make_runs(path: &Path) -> Result<Dir, Fault> {
    if let Some(runs) = Dir::open_private(path)? {
        return Ok(runs);
    }
    let fail = |source| FileError {
        action: "make the directory",
        path: path.to_owned(),
        source,
    };
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(fail(e).into()),
        _ => {}
    }
    let made = Dir::open_private(path)?;
    made.ok_or_else(|| fail(ErrorKind::NotFound.into()).into())
}

fn open_or_make(parent: &Dir, name: &str) -> Result<Dir, FileError> {
    if let Some(dir) = parent.dir(name)? {
        return Ok(dir);
    }
    match parent.create_dir(name) {
        Err(e) if e.is_taken() => {
            let made = parent.dir(name)?;
            made.ok_or_else(|| parent.error("open", name.as_ref(), ErrorKind::NotFound.into()))
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;

    /// As in the data directory, which the confined child of the integration tests tries.
    #[test]
    fn a_lock_without_a_name_is_locked_and_cannot_be_written_to() {
        let run = RunDir::unnamed("6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap()).unwrap();
        let flags = fcntl_getfl(&run.lock).unwrap();
        assert_eq!(flags & OFlags::ACCMODE, OFlags::RDONLY);
        let other = File::open(format!("/proc/self/fd/{}", run.lock.as_raw_fd())).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(run);
        other.try_lock().unwrap();
    }
}

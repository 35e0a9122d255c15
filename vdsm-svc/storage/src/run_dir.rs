//! Run directories: `<storage-root>/.vdsm-run/<task>/`, by which the processes of a task are known.
//!
//! In each lies a locked file that every child of the task has as its standard input. The lock is free when,
//! and only when, no process of the task is left, whatever became of the service. They lie outside the data
//! directory and carry the task's id, so that a service that lost its journal still finds a stranger's writers.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::id::TaskId;
use common::{Fault, FaultCode};
use rustix::process::{Pid, Signal};

use crate::file::{Dir, FileError};
use crate::names;
use crate::process::{self, PidFd};
use crate::root::StorageRoot;

/// The file that is locked.
const LOCK: &str = "lock";

/// Who the child is: its number, when it was started, and in which boot.
const CHILD: &str = "child";

/// How often a lock is tried while its holder is given time to end.
const LOOK: Duration = Duration::from_millis(20);

/// Between a fork and its exec, a child of another thread holds copies of all our files for an instant: a lock
/// that is held longer than this is held by a process of the task.
const INSTANT: Duration = Duration::from_secs(2);

/// How long a process may take to end after SIGKILL before it counts as stuck.
const STUCK: Duration = Duration::from_secs(10);

/// A task's run directory, its lock held.
pub(crate) struct RunDir {
    dir: Dir,
    lock: File,
}

impl RunDir {
    /// Makes and locks it.
    ///
    /// # Errors
    /// `PROCESS_STUCK` where a process of the task is still there; those of the file system.
    pub(crate) fn open(root: &StorageRoot, task: TaskId) -> Result<Self, Fault> {
        let runs = open_or_make(root.dir(), names::RUN)?;
        let name = task.to_string();
        let started = Instant::now();
        loop {
            let opened = Self::try_open(&runs, &name);
            let is_late = started.elapsed() > INSTANT;
            match opened {
                Ok(Some(run)) => return Ok(run),
                // Another service on this root sweeps, and we came between two of its steps.
                Err(e) if (e.is_missing() || e.is_taken()) && !is_late => {}
                Err(e) => return Err(e.into()),
                Ok(None) if is_late => return Err(process::stuck(&format!("a process of task {task}"))),
                Ok(None) => thread::sleep(LOOK),
            }
        }
    }

    /// None where the lock is held, or where whoever held it has removed the directory.
    fn try_open(runs: &Dir, name: &str) -> Result<Option<Self>, FileError> {
        let dir = open_or_make(runs, name)?;
        let lock = match dir.file_for_writing(LOCK)? {
            Some(lock) => lock,
            None => dir.create_file(LOCK)?,
        };
        if !try_lock(&dir, &lock)? {
            return Ok(None);
        }
        let own = lock
            .metadata()
            .map_err(|e| dir.error("look at", LOCK.as_ref(), e))?;
        let in_place = dir.stat(LOCK)?.is_some_and(|stat| stat.st_ino == own.ino());
        Ok(in_place.then_some(Self { dir, lock }))
    }

    /// The lock, for a child to hold.
    pub(crate) fn stdin(&self) -> Result<Stdio, Fault> {
        let lock = self.lock.try_clone();
        Ok(lock
            .map_err(|e| self.dir.error("hand on", LOCK.as_ref(), e))?
            .into())
    }

    /// Notes who the child is, for signalling it after a restart. Whether it lives is told by the lock alone, so
    /// this needs no sync.
    pub(crate) fn record(&self, pid: u32) -> Result<(), Fault> {
        let mut file = match self.dir.file_for_writing(CHILD)? {
            Some(file) => file,
            None => self.dir.create_file(CHILD)?,
        };
        let fail = |e| self.dir.error("write", CHILD.as_ref(), e);
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        let started = process::start_ticks(pid).unwrap_or(0);
        let text = format!("{pid} {started} {}\n", process::boot_id());
        self.dir.write(CHILD, &file, text.as_bytes())?;
        Ok(())
    }
}

/// Removes a task's run directory once no process of it is left. Harmless where there is none.
///
/// # Errors
/// `PROCESS_STUCK` where there still is one; those of the file system.
pub fn remove(root: &StorageRoot, task: TaskId) -> Result<(), Fault> {
    let Some((runs, _)) = find(root, task)? else {
        return Ok(());
    };
    // Locked while it goes: whoever wants it meanwhile sees that it is gone, and makes another one.
    let run = RunDir::open(root, task)?;
    run.dir.purge()?;
    runs.remove_dir(task.to_string())?;
    Ok(())
}

/// Waits an instant for the task's lock to be free: that no process of it is left.
pub(crate) fn is_quiet(root: &StorageRoot, task: TaskId) -> Result<bool, Fault> {
    match find(root, task)? {
        Some((_, dir)) => freed_within(&dir, INSTANT),
        None => Ok(true),
    }
}

/// Whether a process of the task is left.
///
/// # Errors
/// Of the file system.
pub fn is_alive(root: &StorageRoot, task: TaskId) -> Result<bool, Fault> {
    match find(root, task)? {
        Some((_, dir)) => is_held(&dir),
        None => Ok(false),
    }
}

/// Why it cannot be told of a run directory whether a process is left: so many are told, and one more for the rest.
const UNREADABLE_TOLD: usize = 16;

/// What run directories show of tasks that a service does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strangers {
    /// Those of which a process is left: writers of a service that lost its journal, or of another one.
    pub tasks: Vec<TaskId>,
    /// Why there may be more: run directories that cannot be read. While there are any, "no other" is not proven.
    pub unreadable: Vec<Fault>,
    /// How many more cannot be read.
    pub unreadable_left_out: usize,
}

impl Strangers {
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
pub fn strangers(root: &StorageRoot, known: &dyn Fn(TaskId) -> bool) -> Strangers {
    let mut found = Strangers::default();
    let entries = match task_entries(root) {
        Ok(entries) => entries,
        Err(fault) => return Strangers::unreadable(fault),
    };
    for task in entries.into_iter().filter(|task| !known(*task)) {
        match is_alive(root, task) {
            Ok(true) => found.tasks.push(task),
            Ok(false) => {}
            Err(fault) => found.cannot_tell(fault.about(task)),
        }
    }
    found
}

/// The tasks after which something in the directory of run directories is named.
fn task_entries(root: &StorageRoot) -> Result<Vec<TaskId>, Fault> {
    let Some(runs) = root.dir().dir(names::RUN)? else {
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
    let Some((_, dir)) = find(root, task)? else {
        return Ok(());
    };
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, STUCK)] {
        if !is_held(&dir)? {
            return Ok(());
        }
        signal_all(&dir, signal)?;
        if freed_within(&dir, patience)? {
            return Ok(());
        }
    }
    Err(process::stuck(&format!("a process of task {task}")).about(task))
}

fn find(root: &StorageRoot, task: TaskId) -> Result<Option<(Dir, Dir)>, Fault> {
    let Some(runs) = root.dir().dir(names::RUN)? else {
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

fn freed_within(dir: &Dir, patience: Duration) -> Result<bool, Fault> {
    let started = Instant::now();
    while is_held(dir)? {
        if started.elapsed() > patience {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
    Ok(true)
}

/// Signals the child that is recorded, and whoever else holds the lock as its standard input: the record may be
/// missing where the service was killed just after it had started the child.
fn signal_all(dir: &Dir, signal: Signal) -> Result<(), Fault> {
    let holders = match dir.stat(LOCK)? {
        Some(stat) => process::with_stdin(stat.st_dev, stat.st_ino),
        None => Vec::new(),
    };
    for pid in recorded(dir)?.into_iter().chain(holders) {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            continue;
        };
        // Opened first, then looked at again: from here on the handle cannot turn to another process.
        let Some(handle) = PidFd::open(pid) else { continue };
        if is_ours(dir, pid)? {
            handle.signal(signal);
            process::signal_group(pid, signal);
        }
    }
    Ok(())
}

fn is_ours(dir: &Dir, pid: Pid) -> Result<bool, Fault> {
    let pid = pid.as_raw_nonzero().get().cast_unsigned();
    if recorded(dir)? == Some(pid) {
        return Ok(true);
    }
    let Some(lock) = dir.file(LOCK)? else {
        return Ok(false);
    };
    let lock = lock
        .metadata()
        .map_err(|e| dir.error("look at", LOCK.as_ref(), e))?;
    Ok(process::with_stdin(lock.dev(), lock.ino()).contains(&pid))
}

/// The recorded child, if it is still that process: same boot, same time of start.
fn recorded(dir: &Dir) -> Result<Option<u32>, Fault> {
    let Some(text) = dir.read_text(CHILD)? else {
        return Ok(None);
    };
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let [pid, started, boot] = words[..] else {
        return Ok(None);
    };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else {
        return Ok(None);
    };
    let same = boot == process::boot_id() && process::start_ticks(pid) == Some(started);
    Ok(same.then_some(pid))
}

/// Whether the lock could be had; it is held until the file is closed.
fn try_lock(dir: &Dir, lock: &File) -> Result<bool, FileError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(dir.error("lock", LOCK.as_ref(), e)),
    }
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

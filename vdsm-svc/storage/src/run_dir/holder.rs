//! Processes of tasks, found by what they hold: a child of ours has the lock of its task as its standard input.
//!
//! That proves itself. The lock lies in a directory that is nobody's but the service's, is the service's own, and can be
//! opened by nobody else; so whoever holds it had it from the service. What is read from storage decides nothing. A data
//! directory may be lost, or be an older copy: then its locks are found nowhere else.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::id::TaskId;
use rustix::process::Pid;

use super::LOCK;
use crate::names;
use crate::process;

/// Before the task in the name of a lock that lies nowhere; the kernel shows it as `/memfd:NAME (deleted)`.
pub(super) const UNNAMED: &str = "vdsm-svc-lock-";

/// What the kernel appends to the name of what has none any more.
const DELETED: &str = " (deleted)";

/// A process that holds the lock of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: Pid,
    pub(super) task: TaskId,
    /// Device and inode of the lock.
    pub(super) lock: (u64, u64),
    /// Found by the lock of an earlier build, which lies on storage.
    of_old: bool,
}

/// What can be told of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// It holds this task's lock.
    Holds(Holder),
    /// It holds none, or has ended.
    Nothing,
    /// We may not look at it.
    Hidden,
}

/// All holders on this host, of whichever task, and the processes that may be some and cannot be looked at.
pub(super) fn all(storage_root: &Path) -> (Vec<Holder>, Vec<Pid>) {
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    let Ok(processes) = fs::read_dir("/proc") else {
        return (found, hidden);
    };
    let own = rustix::process::getpid();
    let pids = processes.filter_map(|p| Pid::from_raw(p.ok()?.file_name().to_str()?.parse().ok()?));
    for pid in pids.filter(|pid| *pid != own && !pid.is_init()) {
        match look(storage_root, pid) {
            Proof::Holds(holder) => found.push(holder),
            Proof::Hidden => hidden.push(pid),
            Proof::Nothing => {}
        }
    }
    (found, hidden)
}

/// What one process holds.
pub(super) fn look(storage_root: &Path, pid: Pid) -> Proof {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let stdin = match fs::read_link(process.join("fd/0")) {
        Ok(stdin) => stdin,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Proof::Hidden,
        Err(_) => return Proof::Nothing,
    };
    let Some((task, runs)) = lock_of(&stdin) else {
        return Proof::Nothing;
    };
    let of_old = runs == storage_root.join(names::RUN);
    let Ok(file) = fs::metadata(process.join("fd/0")) else {
        return Proof::Nothing;
    };
    let proven = is_locked(&process)
        && if of_old {
            is_our_own(&process)
        } else {
            is_private(&file)
        };
    if !proven {
        return Proof::Nothing;
    }
    Proof::Holds(Holder {
        pid,
        task,
        lock: (file.dev(), file.ino()),
        of_old,
    })
}

impl Holder {
    /// Whether it works below this storage root: it has a file open there.
    pub(super) fn works_below(&self, storage_root: &Path) -> bool {
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())) else {
            return false;
        };
        let mut files = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        self.of_old || files.any(|file| file.starts_with(storage_root))
    }
}

/// The task of a lock by the name that the kernel gives, and the directory of run directories that it lies in.
fn lock_of(stdin: &Path) -> Option<(TaskId, PathBuf)> {
    let name = stdin.to_str()?;
    let name = name.strip_suffix(DELETED).unwrap_or(name);
    if let Some(task) = name
        .strip_prefix("/memfd:")
        .and_then(|name| name.strip_prefix(UNNAMED))
    {
        return Some((task.parse().ok()?, PathBuf::new()));
    }
    let path = Path::new(name);
    let run = path
        .parent()
        .filter(|_| path.file_name().is_some_and(|name| name == LOCK))?;
    let task = run.file_name()?.to_str()?.parse().ok()?;
    Some((task, run.parent()?.to_owned()))
}

/// Whether its standard input is locked, through the very handle that it has.
fn is_locked(process: &Path) -> bool {
    let about = fs::read_to_string(process.join("fdinfo/0")).unwrap_or_default();
    about
        .lines()
        .any(|line| line.starts_with("lock:") && line.contains(" FLOCK "))
}

/// Whether nobody but us can have opened its standard input.
fn is_private(file: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    file.is_file() && file.uid() == own && file.mode() & 0o077 == 0
}

/// Whether it is all ours: earlier builds ran their children as themselves.
fn is_our_own(process: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw().to_string();
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.is_some_and(|uids| uids.split_ascii_whitespace().all(|uid| uid == own))
}

/// The child that a run directory names, if it is still that process: of this boot, and of that time. For a process that
/// we may not look at; any other is told by what it holds.
pub(super) fn recorded(text: &str) -> Option<Pid> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let [pid, started, boot] = words[..] else {
        return None;
    };
    let pid = Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 1)?)?;
    let started: u64 = started.parse().ok().filter(|ticks| *ticks > 0)?;
    let same = boot == process::boot_id()
        && process::start_ticks(pid.as_raw_nonzero().get().cast_unsigned()) == Some(started);
    same.then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn a_lock_is_known_by_its_name_and_no_other_file_is_one() {
        for (name, runs) in [
            (format!("/data/run/{TASK}/lock"), Some("/data/run")),
            (format!("/data/run/{TASK}/lock (deleted)"), Some("/data/run")),
            (format!("/memfd:vdsm-svc-lock-{TASK} (deleted)"), Some("")),
            (format!("/data/run/{TASK}/child"), None),
            (format!("/data/run/{TASK}"), None),
            ("/data/run/lock".to_owned(), None),
            ("pipe:[4711]".to_owned(), None),
            ("/dev/null".to_owned(), None),
        ] {
            let found = lock_of(Path::new(&name)).map(|(task, runs)| (task.to_string(), runs));
            assert_eq!(
                found,
                runs.map(|runs| (TASK.to_owned(), PathBuf::from(runs))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_record_of_the_first_process_of_none_of_another_boot_or_time_is_refused() {
        let own = std::process::id();
        let (started, boot) = (process::start_ticks(own).unwrap(), process::boot_id());
        let pid = |text: String| recorded(&text).map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
        assert_eq!(pid(format!("{own} {started} {boot}\n")), Some(own));
        let first = process::start_ticks(1).unwrap_or(0);
        for text in [
            format!("1 {first} {boot}"),
            format!("0 {started} {boot}"),
            format!("-1 {started} {boot}"),
            format!("-{own} {started} {boot}"),
            format!("{own} {} {boot}", started + 1),
            format!("{own} {started} 00000000-0000-4000-8000-00000000b007"),
            format!("{own} {started}"),
            "4294967295 1 x".to_owned(),
            String::new(),
        ] {
            assert_eq!(pid(text.clone()), None, "{text:?}");
        }
    }
}

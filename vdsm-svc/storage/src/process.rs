//! Processes: waiting for them, signalling them, and recognizing them after a restart.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use common::{Fault, FaultCode};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
    test_kill_process_group, waitid,
};

/// A handle on a process (pidfd): unlike a PID, it is never reused.
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Opens a handle on a child that was not waited for.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT` if no handle is available; `INTERNAL`.
    pub(crate) fn of_child(child: &Child) -> Result<Self, Fault> {
        let opened = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
        opened.map(Self).map_err(|e| match limit(&e.into()) {
            Some(fault) => fault,
            None => internal(&format!("a child cannot be watched: {e}")),
        })
    }

    /// Opens a handle; none if the process does not exist.
    pub(crate) fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Sends a signal. If the process has ended, this does nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.0, signal);
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The interval for checking a child that is to end.
const LOOK: Duration = Duration::from_millis(10);

/// Waits at most this long for the end of a child, without reaping it, so that its PID is not reused. Needs no
/// handle, so it works if none is available.
pub(crate) fn child_ended_within(child: &Child, time: Duration) -> Result<bool, Fault> {
    let began = Instant::now();
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(Pid::from_child(child)), how) {
            Ok(Some(_)) => return Ok(true),
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(internal(&format!("waiting for a child failed: {e}"))),
        }
        if began.elapsed() > time {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
}

/// The fault for a limit of this process or of the machine, if the error is one.
pub(crate) fn limit(error: &io::Error) -> Option<Fault> {
    let is_limit = matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN)
    );
    is_limit.then(|| {
        Fault::new(
            FaultCode::ResourceLimit,
            format!("{error}: {}", crate::file::LIMIT_ADVICE),
        )
    })
}

/// Sends a signal to a process group. If the group has ended, this does nothing. Never signals group 1, which would
/// reach all processes.
pub(crate) fn signal_group(leader: Pid, signal: Signal) {
    if !leader.is_init() {
        let _ = kill_process_group(leader, signal);
    }
}

/// Waits at most this long until a process group is empty whose leader was reaped and whose members were killed.
/// Members that became our own children meanwhile (orphans may be reparented to this process) are reaped.
pub(crate) fn group_gone_within(leader: Pid, time: Duration) -> bool {
    let began = Instant::now();
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    loop {
        while matches!(waitid(WaitId::Pgid(Some(leader)), how), Ok(Some(_))) {}
        if test_kill_process_group(leader) == Err(Errno::SRCH) || !has_living_members(leader) {
            return true;
        }
        if began.elapsed() > time {
            return false;
        }
        thread::sleep(LOOK);
    }
}

/// Zombies do nothing any more.
fn has_living_members(leader: Pid) -> bool {
    let group = leader.as_raw_nonzero().to_string();
    let is_living = |pid| {
        stat_field(pid, 5).as_deref() == Some(&group)
            && !matches!(stat_field(pid, 3).as_deref(), None | Some("Z" | "X"))
    };
    numbers("/proc").any(is_living)
}

/// Another process of this user that could still write to an open file: it has the file open for writing or, if
/// `maps` is set, mapped. Processes that may not be inspected are not found.
pub(crate) fn writer_of(file: impl AsFd, uid: u32, maps: bool) -> Option<u32> {
    let own = std::process::id();
    let fd = file.as_fd().as_raw_fd();
    // The kernel's name of the file follows renames, and comparing it does not access storage.
    let name = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let is_of = |pid: &u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == uid);
    numbers("/proc")
        .filter(|pid| *pid != own)
        .filter(is_of)
        .find(|pid| has_open_for_writing(*pid, &name) || (maps && maps_for_writing(*pid, &name)))
}

fn has_open_for_writing(pid: u32, name: &Path) -> bool {
    let folder = format!("/proc/{pid}/fd");
    numbers(&folder).any(|fd| {
        fs::read_link(format!("{folder}/{fd}")).is_ok_and(|of| of == name)
            && fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).is_ok_and(|about| may_write(&about))
    })
}

/// Reads the open flags, which the kernel shows in octal.
fn may_write(about: &str) -> bool {
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    let flags = OFlags::from_bits_retain(flags.unwrap_or_default());
    !flags.contains(OFlags::PATH) && flags.intersects(OFlags::WRONLY | OFlags::RDWR)
}

fn maps_for_writing(pid: u32, name: &Path) -> bool {
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let name = name.as_os_str().as_bytes();
    maps.split(|byte| *byte == b'\n').any(|line| {
        let mode = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        line.ends_with(name) && mode.get(1) == Some(&b'w') && mode.get(3) == Some(&b's')
    })
}

/// The numeric entries of a directory below `/proc`.
fn numbers(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What a process with all its threads has read and written since it started, in bytes (`/proc/PID/io`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct IoCounters {
    /// Bytes read by system calls, from any source (`rchar`).
    pub(crate) read: u64,
    /// Bytes written by system calls, to any target (`wchar`).
    pub(crate) written: u64,
    /// Bytes read from storage (`read_bytes`); 0 on tmpfs.
    pub(crate) from_storage: u64,
    /// Bytes written to storage (`write_bytes`); 0 on tmpfs.
    pub(crate) to_storage: u64,
}

/// The counters of a process; none if they cannot be read.
pub(crate) fn io_counters(pid: u32) -> Option<IoCounters> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(k, _)| *k == key)?.1.parse().ok()
    };
    Some(IoCounters {
        read: value("rchar")?,
        written: value("wchar")?,
        from_storage: value("read_bytes")?,
        to_storage: value("write_bytes")?,
    })
}

/// What this process cannot see of the children that it runs as another user, for people; none if it sees everything.
pub(crate) fn blindness() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let own = rustix::thread::capabilities(None).ok()?.effective;
    (!own.contains(rustix::thread::CapabilitySet::SYS_PTRACE)).then(|| {
        "the service is root without CAP_SYS_PTRACE: it cannot see the progress of copies, stalled copies, what a child process left behind, or processes of a lost data directory".to_owned()
    })
}

/// The start time of a process, in ticks since the boot; none if it does not exist.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// Whether a process is a process group leader.
pub(crate) fn leads_a_group(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get().cast_unsigned();
    stat_field(pid, 5).is_some_and(|group| group == pid.to_string())
}

/// A number from `/proc/PID/stat`; the first is the third field.
fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain blanks and parentheses; field 3 follows.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace()
        .nth(field.checked_sub(3)?)
        .map(str::to_owned)
}

/// Identifies a boot of the machine.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The fault for a process that survives SIGKILL.
pub(crate) fn stuck(what: &str) -> Fault {
    Fault::new(
        FaultCode::ProcessStuck,
        format!(
            "{what} cannot be killed: it waits in the kernel for its storage; nothing is undone until it ends. Repair the storage, or restart the machine"
        ),
    )
}

fn internal(message: &str) -> Fault {
    Fault::new(FaultCode::Internal, message)
}

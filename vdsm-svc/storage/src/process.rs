//! Processes: waiting for them, signalling them, and knowing one again after a restart.

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

/// A handle on a process that stays with it: its number may be given away, this is not.
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Of a child that was not waited for.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT` where there is no handle to be had; `INTERNAL`.
    pub(crate) fn of_child(child: &Child) -> Result<Self, Fault> {
        let opened = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
        opened.map(Self).map_err(|e| match limit(&e.into()) {
            Some(fault) => fault,
            None => internal(&format!("a child cannot be watched: {e}")),
        })
    }

    /// None if there is no such process.
    pub(crate) fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Signals it. One that has ended needs no signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.0, signal);
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How often a child is looked at that is to end.
const LOOK: Duration = Duration::from_millis(10);

/// Waits at most so long for the end of a child, and leaves it to be waited for: until then its number is its own. Needs
/// no handle, so it works where no more are to be had.
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

/// Signals a group. One that has ended needs no signal. Never that of the first process, which would be everybody's.
pub(crate) fn signal_group(leader: Pid, signal: Signal) {
    if !leader.is_init() {
        let _ = kill_process_group(leader, signal);
    }
}

/// Waits at most so long until nobody is left in a group whose leader was waited for and whose members were killed. What
/// came to be our own child meanwhile (the parent of those whose parent is gone may be this process) is waited for.
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

/// Those that have ended and that nobody waits for do nothing any more.
fn has_living_members(leader: Pid) -> bool {
    let group = leader.as_raw_nonzero().to_string();
    let is_living = |pid| {
        stat_field(pid, 5).as_deref() == Some(&group)
            && !matches!(stat_field(pid, 3).as_deref(), None | Some("Z" | "X"))
    };
    numbers("/proc").any(is_living)
}

/// A process of this user, other than this one, that could still write to an open file: it has it open for that, or, where
/// `maps` are asked for as well, in its memory. What may not be looked at is not found.
pub(crate) fn writer_of(file: impl AsFd, uid: u32, maps: bool) -> Option<u32> {
    let own = std::process::id();
    let fd = file.as_fd().as_raw_fd();
    // The kernel's name of it follows renames, and comparing it asks no storage.
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

/// By the flags that a file was opened with, as the kernel shows them in octal.
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

/// The entries of a directory below `/proc` that are numbers.
fn numbers(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What a process has read and written since it began, in bytes, all its threads together (`/proc/PID/io`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct IoCounters {
    /// By calls that read, from wherever (`rchar`).
    pub(crate) read: u64,
    /// By calls that write, to wherever (`wchar`).
    pub(crate) written: u64,
    /// Fetched from storage (`read_bytes`); 0 on tmpfs.
    pub(crate) from_storage: u64,
    /// Sent to storage (`write_bytes`); 0 on tmpfs.
    pub(crate) to_storage: u64,
}

/// The counters of a process; none where they cannot be read.
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

/// What this process cannot see of the children that it runs as another user, in words; none if nothing.
pub(crate) fn blindness() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let own = rustix::thread::capabilities(None).ok()?.effective;
    (!own.contains(rustix::thread::CapabilitySet::SYS_PTRACE)).then(|| {
        "the service is root without CAP_SYS_PTRACE: it sees neither how far a copy is nor that one moves no byte nor what a child left behind, and finds no process of a lost data directory".to_owned()
    })
}

/// When a process was started, in ticks since the boot; none if there is none.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// Whether a process leads a group of its own.
pub(crate) fn leads_a_group(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get().cast_unsigned();
    stat_field(pid, 5).is_some_and(|group| group == pid.to_string())
}

/// One of the numbers that `/proc/PID/stat` has; the first is the third field.
fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold blanks and parentheses; after it comes field 3.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace()
        .nth(field.checked_sub(3)?)
        .map(str::to_owned)
}

/// Tells one boot of the machine from another.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The fault for what outlives a signal that cannot be ignored.
pub(crate) fn stuck(what: &str) -> Fault {
    Fault::new(
        FaultCode::ProcessStuck,
        format!(
            "{what} cannot be killed: it waits in the kernel for its storage; nothing is undone under it. Repair the storage, or restart the machine"
        ),
    )
}

fn internal(message: &str) -> Fault {
    Fault::new(FaultCode::Internal, message)
}

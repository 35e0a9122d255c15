//! The only place that runs `qemu-img`: confined, with open files instead of names.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use common::{Fault, FaultCode};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use super::QemuImg;
use super::ended::{Ended, Output, failed};
use super::pipes::Pipes;
use super::stall::Stall;
use super::version::missing;
use crate::confine::{
    Access, Bounds, FIRST_ARGUMENT, NO_PROGRAM, NOT_STARTED, Order, Part, Permit, Report, StorageUser,
};
use crate::process::{self, IoCounters, PidFd};
use crate::run_dir::RunDir;

/// The first interval for checking for an abort and reading the child's counters, short so that a short run shows
/// progress.
const LOOK_SOONEST: Duration = Duration::from_millis(100);

/// The longest interval: an abort must take effect within a second, and each check takes CPU time from the child.
const LOOK_LATEST: Duration = Duration::from_millis(500);

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// After this, a child that still exists is stuck in the kernel.
const STUCK: Duration = Duration::from_secs(10);

/// How long output may still arrive after a child has ended, which means that another process has the pipe.
const PIPES: Duration = Duration::from_secs(2);

/// Bounds of a child.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum duration; none for work that depends on the amount of data, which must only make progress.
    pub time: Option<Duration>,
    /// Its address space, in bytes.
    pub memory_bytes: u64,
    /// Its CPU time, in seconds; none as for `time`.
    pub cpu_s: Option<u64>,
    /// The largest file that it may write, in bytes; none if it writes little.
    pub file_bytes: Option<u64>,
}

impl Limits {
    /// For questions: VDSM's bounds for images that are not trusted.
    pub const QUERY: Self = Self {
        time: Some(Duration::from_secs(60)),
        memory_bytes: 1 << 30,
        cpu_s: Some(30),
        file_bytes: Some(0),
    };

    /// For creating an empty image: milliseconds, unless storage is slow.
    pub const CREATE: Self = Self {
        time: Some(Duration::from_secs(300)),
        memory_bytes: 2 << 30,
        cpu_s: Some(60),
        file_bytes: None,
    };

    /// For reading or writing all data of a volume.
    pub const DATA: Self = Self {
        time: None,
        memory_bytes: 2 << 30,
        cpu_s: None,
        file_bytes: None,
    };

    /// The same, with files of at most this many bytes.
    #[must_use]
    pub const fn with_files_of(self, bytes: u64) -> Self {
        Self {
            file_bytes: Some(bytes),
            ..self
        }
    }

    const fn bounds(self) -> Bounds {
        Bounds {
            memory_bytes: self.memory_bytes,
            cpu_s: self.cpu_s,
            file_bytes: self.file_bytes,
        }
    }
}

/// A file that is passed to a child, independent of its name. The child gets a reference (O_PATH) and opens the file
/// itself, so it shares no lock, position or flag with us.
#[derive(Debug)]
pub struct Given {
    file: OwnedFd,
    path: String,
    access: Access,
}

impl Given {
    /// A file to be read.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT` if the file cannot be passed.
    pub fn to_read(file: &File) -> Result<Self, Fault> {
        Self::new(file, Access::Read)
    }

    /// A file to be read, written and resized.
    ///
    /// # Errors
    /// As [`Given::to_read`].
    pub fn to_write(file: &File) -> Result<Self, Fault> {
        Self::new(file, Access::Write)
    }

    fn new(file: &File, access: Access) -> Result<Self, Fault> {
        let ours = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = rustix::fs::open(ours, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| cannot_be_handed_on(&e.into()))?;
        Ok(Self {
            // Its descriptor in the child has the same number as here, so it is unique.
            path: format!("/proc/self/fd/{}", file.as_raw_fd()),
            file,
            access,
        })
    }

    /// The path by which the child opens it.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn permit(&self) -> Permit {
        Permit {
            fd: self.file.as_raw_fd(),
            access: self.access,
        }
    }
}

/// A command line of a task.
pub(crate) struct Job<'a> {
    /// The command line, without the program.
    pub(crate) argv: &'a [String],
    /// The files in the command line.
    pub(crate) files: Vec<Given>,
    /// The task's lock, which is the child's standard input: whoever gets the lock knows that the child is gone.
    pub(crate) run_dir: &'a RunDir,
    /// Its bounds.
    pub(crate) limits: Limits,
    /// Whether it is to be aborted.
    pub(crate) stop: &'a dyn Fn() -> bool,
    /// Called with its counters while it runs; a fault stops it.
    pub(crate) moved: &'a dyn Fn(IoCounters) -> Result<(), Fault>,
}

/// The conditions that stop a child.
struct Watch<'a> {
    argv: &'a [String],
    limits: Limits,
    /// How long it may make no progress.
    stall: Option<Duration>,
    stop: &'a dyn Fn() -> bool,
    moved: &'a dyn Fn(IoCounters) -> Result<(), Fault>,
}

impl QemuImg {
    /// Runs a task's command line to its end. When it returns, no process of it is left, unless the fault is
    /// `PROCESS_STUCK`.
    ///
    /// # Errors
    /// `ABORTED`; `NO_PROGRESS` if it made no progress for as long as is allowed; `QEMU_IMG_FAILED` if it took too
    /// long or could not be started; `RESOURCE_LIMIT`; `PROCESS_STUCK`; `QEMU_IMG_MISSING`.
    pub(crate) fn run(&self, job: Job<'_>) -> Result<Ended, Fault> {
        let stdin = job.run_dir.stdin()?;
        let written = written(&job.files)?;
        let child = self.spawn(job.argv, job.files, stdin, job.limits)?;
        let recorded = job.run_dir.record(child.id());
        let watch = Watch {
            argv: job.argv,
            limits: job.limits,
            stall: Some(self.no_progress_timeout),
            stop: job.stop,
            moved: job.moved,
        };
        let ended = watch.to_its_end(child, recorded)?;
        self.nobody_writes_to(&written, job.argv)?;
        Ok(ended)
    }

    /// Whether no process can still write to the result: a process that left the child's group would not have been
    /// killed.
    ///
    /// # Errors
    /// `QEMU_IMG_FAILED` naming the process.
    fn nobody_writes_to(&self, written: &[OwnedFd], argv: &[String]) -> Result<(), Fault> {
        let euid = rustix::process::geteuid();
        let uid = if euid.is_root() {
            self.user.uid()
        } else {
            euid.as_raw()
        };
        // With a seccomp filter no such process can exist, and mappings of other processes need not be checked.
        let maps = !self.confinement()?.demands().contains(&Part::Seccomp);
        match written
            .iter()
            .find_map(|file| process::writer_of(file, uid, maps))
        {
            None => Ok(()),
            Some(pid) => Err(failed(
                argv,
                &format!(
                    "ended, but process {pid} still has the file that it made open for writing; end that process, and check which qemu-img is installed"
                ),
                "",
            )),
        }
    }

    /// Runs a command line that belongs to no task.
    pub(super) fn ask(&self, argv: &[String], files: Vec<Given>, limits: Limits) -> Result<Output, Fault> {
        let child = self.spawn(argv, files, Stdio::null(), limits)?;
        finish_question(argv, child, limits)
    }

    /// What this machine does not support of the confinement: determined at the first call; everything else is
    /// required from then on.
    ///
    /// # Errors
    /// If it cannot be determined, as for [`QemuImg::probe`].
    pub fn confinement(&self) -> Result<Report, Fault> {
        let machine = (self.confiner.path().to_owned(), self.user);
        if let Some((_, report)) = found().iter().find(|(of, _)| *of == machine) {
            return Ok(report.clone());
        }
        let report = self.ask_for_confinement()?;
        found().push((machine, report.clone()));
        Ok(report)
    }

    fn ask_for_confinement(&self) -> Result<Report, Fault> {
        let argv = ["(run by the service)".to_owned()];
        let order = self.order(&[], &[], Limits::QUERY, None)?;
        let child = self.start(&argv, &order, Vec::new(), Stdio::null())?;
        let said = finish_question(&argv, child, Limits::QUERY)?.stdout.text();
        let unread = |e| {
            failed(
                &argv,
                &format!("gave an answer that cannot be parsed ({e}): {said}"),
                "",
            )
        };
        let mut report: Report = serde_json::from_str(&said).map_err(unread)?;
        report.weaker.extend(process::blindness());
        Ok(report)
    }

    fn spawn(
        &self,
        argv: &[String],
        files: Vec<Given>,
        stdin: Stdio,
        limits: Limits,
    ) -> Result<Child, Fault> {
        let demands = self.confinement()?.demands();
        let order = self.order(argv, &files, limits, Some(demands))?;
        self.start(argv, &order, files, stdin)
    }

    fn order(
        &self,
        argv: &[String],
        files: &[Given],
        limits: Limits,
        demands: Option<BTreeSet<Part>>,
    ) -> Result<Order, Fault> {
        let is_root = rustix::process::geteuid().is_root();
        Ok(Order {
            program: self.program()?,
            args: argv.to_vec(),
            user: is_root.then_some((self.user.uid(), self.user.gid())),
            files: files.iter().map(Given::permit).collect(),
            bounds: limits.bounds(),
            demands,
        })
    }

    fn start(&self, argv: &[String], order: &Order, files: Vec<Given>, stdin: Stdio) -> Result<Child, Fault> {
        let order = serde_json::to_string(order)
            .map_err(|e| failed(argv, &format!("cannot be handed on: {e}"), ""))?;
        let same_number = |given: Given| FdMapping {
            child_fd: given.file.as_raw_fd(),
            parent_fd: given.file,
        };
        let mut command = Command::new(self.confiner.path());
        command
            .arg0("qemu-img")
            .args([FIRST_ARGUMENT, &order])
            .env_clear()
            // Nothing is found by a name from here.
            .current_dir("/")
            // A group of its own, so that the service's signals do not reach it and ours reach all of it.
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .fd_mappings(files.into_iter().map(same_number).collect())
            .map_err(|e| failed(argv, &format!("cannot be given its files: {e}"), ""))?;
        with_huge_pages(|| command.spawn()).map_err(|e| {
            let confiner = self.confiner.path().display();
            process::limit(&e).unwrap_or_else(|| {
                failed(
                    argv,
                    &format!("could not be started: {confiner} cannot be run: {e}"),
                    "",
                )
            })
        })
    }
}

/// The files that a child may write to, to be looked at when it has ended.
fn written(files: &[Given]) -> Result<Vec<OwnedFd>, Fault> {
    let writable = files.iter().filter(|given| given.access == Access::Write);
    let copy = |given: &Given| given.file.try_clone().map_err(|e| cannot_be_handed_on(&e));
    writable.map(copy).collect()
}

fn cannot_be_handed_on(error: &std::io::Error) -> Fault {
    process::limit(error).unwrap_or_else(|| {
        Fault::new(
            FaultCode::Internal,
            format!("a file cannot be handed on: {error}"),
        )
    })
}

/// What was found out of this machine in this process, by who confines and as whom: a few entries at most.
fn found() -> MutexGuard<'static, Vec<((PathBuf, StorageUser), Report)>> {
    static FOUND: Mutex<Vec<((PathBuf, StorageUser), Report)>> = Mutex::new(Vec::new());
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

fn finish_question(argv: &[String], child: Child, limits: Limits) -> Result<Output, Fault> {
    let watch = Watch {
        argv,
        limits,
        stall: None,
        stop: &|| false,
        moved: &|_| Ok(()),
    };
    watch.to_its_end(child, Ok(()))?.well()
}

/// A service may want its own memory in small pages, which programs inherit that it starts; these move much through
/// large buffers. Two at once do each other no harm: the worst is a program that goes on with small ones.
fn with_huge_pages<T>(start: impl FnOnce() -> T) -> T {
    let small = rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false);
    if !small {
        return start();
    }
    // Advice only: without it all is as right, if slower.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    let started = start();
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    started
}

impl Watch<'_> {
    fn to_its_end(&self, mut child: Child, recorded: Result<(), Fault>) -> Result<Ended, Fault> {
        let verdict = recorded.and_then(|()| {
            let mut pipes = Pipes::of(&mut child)?;
            self.wait(&child, &mut pipes)?;
            self.rest(&child, pipes)
        });
        if verdict.is_err() {
            end(&child, self.argv)?;
        }
        // It has ended and was not waited for, so the number is its group's. Whoever is left in it goes with it.
        let leader = Pid::from_child(&child);
        process::signal_group(leader, Signal::KILL);
        let status = child
            .wait()
            .map_err(|e| failed(self.argv, &format!("cannot be waited for: {e}"), ""))?;
        if !process::group_gone_within(leader, STUCK) {
            return Err(stuck(self.argv, leader));
        }
        let output = verdict?;
        not_begun(self.argv, status, &output)?;
        Ok(Ended {
            argv: self.argv.to_vec(),
            status,
            file_bytes: self.limits.file_bytes,
            output,
        })
    }

    /// What else it printed. Whoever of its group still has its pipes then is ended with it; what has left the group
    /// may keep them, and is heard no more.
    fn rest(&self, child: &Child, mut pipes: Pipes) -> Result<Output, Fault> {
        if !pipes.drained_within(PIPES, self.stop)? {
            process::signal_group(Pid::from_child(child), Signal::KILL);
            pipes.drained_within(LOOK_LATEST, &|| false)?;
        }
        Ok(pipes.into_output())
    }

    /// Waits until the child has ended.
    fn wait(&self, child: &Child, pipes: &mut Pipes) -> Result<(), Fault> {
        let pidfd = PidFd::of_child(child)?;
        let started = Instant::now();
        let mut stall = Stall::new(started);
        let mut due = started + LOOK_SOONEST;
        while !pipes.ended_within(&pidfd, due.saturating_duration_since(Instant::now()))? {
            if Instant::now() < due {
                // It has only said something.
                continue;
            }
            due = Instant::now() + next_look(started.elapsed());
            if (self.stop)() {
                return Err(Fault::new(
                    FaultCode::Aborted,
                    "the task was aborted while qemu-img ran",
                ));
            }
            if let Some(time) = self.limits.time.filter(|time| started.elapsed() > *time) {
                let how = format!("took longer than {} s and was stopped", time.as_secs());
                return Err(failed(self.argv, &how, ""));
            }
            // Counters that cannot be read accuse nobody.
            let Some(io) = process::io_counters(child.id()) else {
                continue;
            };
            (self.moved)(io)?;
            let still = stall.look(io, Instant::now());
            if let Some(time) = self.stall.filter(|time| still > *time) {
                return Err(no_progress(self.argv, time));
            }
        }
        Ok(())
    }
}

/// After how long to look again at a child that has run for so long: a fifth of it, within bounds.
fn next_look(ran: Duration) -> Duration {
    (ran / 5).clamp(LOOK_SOONEST, LOOK_LATEST)
}

/// # Errors
/// Where the child did not become what it was to.
fn not_begun(argv: &[String], status: ExitStatus, output: &Output) -> Result<(), Fault> {
    let said = output.stderr.text();
    match status.code() {
        Some(NO_PROGRAM) => Err(missing(&format!("cannot be started ({})", said.trim()))),
        Some(NOT_STARTED) => Err(failed(
            argv,
            &format!(
                "was not started, because it could not be confined as it was when the service started ({}); restart the service to see what the machine lacks",
                said.trim()
            ),
            "",
        )),
        _ => Ok(()),
    }
}

/// Ends a child's group: politely, then not. A stopped process does not hear the first signal, but the second.
fn end(child: &Child, argv: &[String]) -> Result<(), Fault> {
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, STUCK)] {
        // It has not been waited for, so the number is still its own.
        process::signal_group(Pid::from_child(child), signal);
        if process::child_ended_within(child, patience)? {
            return Ok(());
        }
    }
    Err(stuck(argv, Pid::from_child(child)))
}

fn stuck(argv: &[String], leader: Pid) -> Fault {
    process::stuck(&format!(
        "qemu-img {} (process {})",
        argv.join(" "),
        leader.as_raw_nonzero()
    ))
}

fn no_progress(argv: &[String], time: Duration) -> Fault {
    Fault::new(
        FaultCode::NoProgress,
        format!(
            "`qemu-img {}` made no progress for {} s and was stopped: check the storage, or allow more time with --no-progress-timeout",
            argv.join(" "),
            time.as_secs_f32()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer_and_never_too_rare() {
        let millis = Duration::from_millis;
        assert_eq!(next_look(Duration::ZERO), LOOK_SOONEST);
        assert_eq!(next_look(millis(2_000)), millis(400));
        assert_eq!(next_look(Duration::from_secs(3_600)), LOOK_LATEST);
    }
}

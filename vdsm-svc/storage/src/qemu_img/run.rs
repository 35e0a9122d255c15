//! The one place that runs `qemu-img`.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Fault, FaultCode};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::QemuImg;
use super::ended::{Ended, Output, failed};
use super::pipes::Pipes;
use super::stall::Stall;
use super::version::missing;
use crate::file::Dir;
use crate::process::{self, IoCounters, PidFd};
use crate::run_dir::RunDir;

/// A wish to stop, and the child's counters, are looked at this soon at first, so that a short run is seen to move,
const LOOK_SOONEST: Duration = Duration::from_millis(100);

/// and as often as this in the end: a wish to stop is to be carried out within a second, and each look takes the processor
/// from the child.
const LOOK_LATEST: Duration = Duration::from_millis(500);

/// Between the polite signal and the one that cannot be ignored.
const GRACE: Duration = Duration::from_secs(5);

/// After that, a child that is still there is stuck in the kernel.
const STUCK: Duration = Duration::from_secs(10);

/// How long what a child printed may still come once it has ended: then a process of its own holds the pipe.
const PIPES: Duration = Duration::from_secs(2);

/// Bounds of a child.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may take in all; none for work that is as long as its data, which must only go on.
    pub time: Option<Duration>,
    /// Its address space, in bytes.
    pub memory_bytes: u64,
    /// Its processor time, in seconds; none as for `time`.
    pub cpu_s: Option<u64>,
}

impl Limits {
    /// For questions: VDSM's bounds for images that are not trusted.
    pub const QUERY: Self = Self {
        time: Some(Duration::from_secs(60)),
        memory_bytes: 1 << 30,
        cpu_s: Some(30),
    };

    /// For making an empty image: milliseconds, unless the storage is slow.
    pub const CREATE: Self = Self {
        time: Some(Duration::from_secs(300)),
        memory_bytes: 2 << 30,
        cpu_s: Some(60),
    };

    /// For reading or writing all data of a volume.
    pub const DATA: Self = Self {
        time: None,
        memory_bytes: 2 << 30,
        cpu_s: None,
    };
}

/// A command line that a task runs.
pub(crate) struct Job<'a> {
    /// The command line, without the program.
    pub(crate) argv: &'a [String],
    /// Where it works.
    pub(crate) dir: &'a Dir,
    /// Whose child it is: the task's lock is its standard input, so that whoever gets the lock knows it is gone.
    pub(crate) run_dir: &'a RunDir,
    /// Its bounds.
    pub(crate) limits: Limits,
    /// Whether it is to be stopped.
    pub(crate) stop: &'a dyn Fn() -> bool,
    /// Sees its counters while it runs.
    pub(crate) moved: &'a dyn Fn(IoCounters),
}

/// What a child is watched for.
struct Watch<'a> {
    argv: &'a [String],
    limits: Limits,
    /// For how long it may move no byte.
    stall: Option<Duration>,
    stop: &'a dyn Fn() -> bool,
    moved: &'a dyn Fn(IoCounters),
}

impl QemuImg {
    /// Runs a task's command line to its end. When it returns, no process of it is left, unless the fault is
    /// `PROCESS_STUCK`.
    ///
    /// # Errors
    /// `ABORTED`; `NO_PROGRESS` where it moved no byte for as long as is allowed; `QEMU_IMG_FAILED` where it took
    /// too long or could not be started; `RESOURCE_LIMIT`; `PROCESS_STUCK`; `QEMU_IMG_MISSING`.
    pub(crate) fn run(&self, job: &Job<'_>) -> Result<Ended, Fault> {
        let stdin = job.run_dir.stdin()?;
        let child = self.spawn(job.argv, Some(job.dir), stdin)?;
        let recorded = job.run_dir.record(child.id());
        let watch = Watch {
            argv: job.argv,
            limits: job.limits,
            stall: Some(self.no_progress_timeout),
            stop: job.stop,
            moved: job.moved,
        };
        watch.to_its_end(child, recorded)
    }

    /// Asks a question of no task.
    pub(super) fn ask(&self, argv: &[String], dir: Option<&Dir>, limits: Limits) -> Result<Output, Fault> {
        let child = self.spawn(argv, dir, Stdio::null())?;
        let watch = Watch {
            argv,
            limits,
            stall: None,
            stop: &|| false,
            moved: &|_| (),
        };
        watch.to_its_end(child, Ok(()))?.well()
    }

    fn spawn(&self, argv: &[String], dir: Option<&Dir>, stdin: Stdio) -> Result<Child, Fault> {
        let mut command = Command::new(&self.program);
        command
            .args(argv)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own, so that the service's signals do not reach it and ours reach all of it. The
        // language is fixed: what it says goes into faults.
        command.process_group(0).env("LC_ALL", "C");
        if let Some(dir) = dir {
            command.current_dir(dir.proc_path());
        }
        with_huge_pages(|| command.spawn()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                missing(&format!("cannot be started ({}: {e})", self.program.display()))
            }
            _ => {
                process::limit(&e).unwrap_or_else(|| failed(argv, &format!("could not be started: {e}"), ""))
            }
        })
    }
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
            limit(&child, self.limits);
            let mut pipes = Pipes::of(&mut child)?;
            self.wait(&child, &mut pipes)?;
            self.rest(&child, pipes)
        });
        if verdict.is_err() {
            end(&child, self.argv)?;
        }
        let status = child
            .wait()
            .map_err(|e| failed(self.argv, &format!("cannot be waited for: {e}"), ""))?;
        Ok(Ended {
            argv: self.argv.to_vec(),
            status,
            output: verdict?,
        })
    }

    /// What else it printed. Whoever of its group still has its pipes then is ended with it; what has left the group may
    /// keep them, and is heard no more.
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
                    "it was stopped while qemu-img ran",
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
            (self.moved)(io);
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

/// Bounds a child. A child that ended already needs none.
fn limit(child: &Child, limits: Limits) {
    let pid = Some(Pid::from_child(child));
    let at_most = |n| Rlimit {
        current: Some(n),
        maximum: Some(n),
    };
    let _ = rustix::process::prlimit(pid, Resource::As, at_most(limits.memory_bytes));
    if let Some(cpu_s) = limits.cpu_s {
        let _ = rustix::process::prlimit(pid, Resource::Cpu, at_most(cpu_s));
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
    Err(process::stuck(&format!(
        "qemu-img {} (process {})",
        argv.join(" "),
        child.id()
    )))
}

fn no_progress(argv: &[String], time: Duration) -> Fault {
    Fault::new(
        FaultCode::NoProgress,
        format!(
            "`qemu-img {}` moved no byte for {} s and was stopped: look at the storage below it, or allow more with --no-progress-timeout",
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

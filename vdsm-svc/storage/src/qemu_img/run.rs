//! The one place that runs `qemu-img`.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{Fault, FaultCode};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::QemuImg;
use super::capture::{Captured, capture};
use super::version::missing;
use crate::file::Dir;
use crate::process::{self, PidFd};
use crate::run_dir::RunDir;

/// How often a wish to stop is looked at while the child runs.
const LOOK: Duration = Duration::from_millis(100);

/// Between the polite signal and the one that cannot be ignored.
const GRACE: Duration = Duration::from_secs(5);

/// After that, a child that is still there is stuck in the kernel.
const STUCK: Duration = Duration::from_secs(10);

/// Bounds of a child.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may take in all.
    pub time: Duration,
    /// Its address space, in bytes.
    pub memory_bytes: u64,
    /// Its processor time, in seconds.
    pub cpu_s: u64,
}

impl Limits {
    /// For questions: VDSM's bounds for images that are not trusted.
    pub const QUERY: Self = Self {
        time: Duration::from_secs(60),
        memory_bytes: 1 << 30,
        cpu_s: 30,
    };

    /// For making an empty image: milliseconds, unless the storage is slow.
    pub const CREATE: Self = Self {
        time: Duration::from_secs(300),
        memory_bytes: 2 << 30,
        cpu_s: 60,
    };
}

/// What a child that ended with 0 printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its output.
    pub stdout: Captured,
    /// Its warnings.
    pub stderr: Captured,
}

/// Whether the work is to be stopped.
pub(crate) type Stop<'a> = &'a dyn Fn() -> bool;

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
    pub(crate) stop: Stop<'a>,
}

impl QemuImg {
    /// Runs a task's command line to its end. When it returns, no process of it is left, unless the fault is
    /// `PROCESS_STUCK`.
    ///
    /// # Errors
    /// `QEMU_IMG_FAILED` with the command line, how it ended and what it said; `ABORTED`; `PROCESS_STUCK`;
    /// `QEMU_IMG_MISSING`.
    pub(crate) fn run(&self, job: &Job<'_>) -> Result<Output, Fault> {
        let stdin = job.run_dir.stdin()?;
        let child = self.spawn(job.argv, Some(job.dir), stdin)?;
        let recorded = job.run_dir.record(child.id());
        self.finish(child, job.argv, job.limits, job.stop, recorded)
    }

    /// Asks a question of no task.
    pub(super) fn ask(&self, argv: &[String], dir: Option<&Dir>, limits: Limits) -> Result<Output, Fault> {
        let child = self.spawn(argv, dir, Stdio::null())?;
        self.finish(child, argv, limits, &|| false, Ok(()))
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
        command.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                missing(&format!("cannot be started ({}: {e})", self.program.display()))
            }
            _ => failed(argv, &format!("could not be started: {e}"), ""),
        })
    }

    fn finish(
        &self,
        mut child: Child,
        argv: &[String],
        limits: Limits,
        stop: Stop<'_>,
        recorded: Result<(), Fault>,
    ) -> Result<Output, Fault> {
        let stdout = child.stdout.take().map(capture);
        let stderr = child.stderr.take().map(capture);
        let verdict = recorded.and_then(|()| {
            limit(&child, limits);
            watch(&child, argv, limits.time, stop)
        });
        if verdict.is_err() {
            end(&mut child, argv)?;
        }
        let status = child
            .wait()
            .map_err(|e| failed(argv, &format!("cannot be waited for: {e}"), ""))?;
        let text = |thread: Option<std::thread::JoinHandle<Captured>>| {
            thread.and_then(|t| t.join().ok()).unwrap_or_default()
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        verdict?;
        if status.success() {
            Ok(Output { stdout, stderr })
        } else {
            Err(failed(argv, &how(status), &stderr.text()))
        }
    }
}

/// Bounds a child. A child that ended already needs none.
fn limit(child: &Child, limits: Limits) {
    let pid = Some(Pid::from_child(child));
    let at_most = |n| Rlimit {
        current: Some(n),
        maximum: Some(n),
    };
    let _ = rustix::process::prlimit(pid, Resource::As, at_most(limits.memory_bytes));
    let _ = rustix::process::prlimit(pid, Resource::Cpu, at_most(limits.cpu_s));
}

/// Waits until the child has ended.
fn watch(child: &Child, argv: &[String], time: Duration, stop: Stop<'_>) -> Result<(), Fault> {
    let pidfd = PidFd::of_child(child)?;
    let started = Instant::now();
    while !pidfd.ended_within(LOOK)? {
        if stop() {
            return Err(Fault::new(
                FaultCode::Aborted,
                "it was stopped while qemu-img ran",
            ));
        }
        if started.elapsed() > time {
            return Err(failed(
                argv,
                &format!("took longer than {} s and was stopped", time.as_secs()),
                "",
            ));
        }
    }
    Ok(())
}

/// Ends a child's group: politely, then not.
fn end(child: &mut Child, argv: &[String]) -> Result<(), Fault> {
    let pidfd = PidFd::of_child(child)?;
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, STUCK)] {
        // It has not been waited for, so the number is still its own.
        process::signal_group(Pid::from_child(child), signal);
        if pidfd.ended_within(patience)? {
            return Ok(());
        }
    }
    Err(process::stuck(&format!(
        "qemu-img {} (process {})",
        argv.join(" "),
        child.id()
    )))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended in an unknown way ({status})"),
    }
}

fn failed(argv: &[String], how: &str, stderr: &str) -> Fault {
    let said = match stderr.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    };
    // qemu-img tells its errors only in words; this one decides what a caller may do.
    let code = if stderr.contains("No space left on device") {
        FaultCode::NoSpace
    } else {
        FaultCode::QemuImgFailed
    };
    Fault::new(code, format!("`qemu-img {}` {how}{said}", argv.join(" ")))
}

//! Reads the output of a child while waiting for it: this needs no thread, and leaves none behind.
//!
//! A pipe is open for as long as any process has its other end, and a child may have passed that to another process.
//! So once the child has ended, waiting for its pipes has a limit.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use common::{Fault, FaultCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::capture::Captured;
use super::ended::Output;
use crate::process::PidFd;

/// The maximum to read from a pipe before the child is checked again: endless output must not hide its end.
const ROUND_BYTES: usize = 256 << 10;

/// The interval for checking for an abort.
const LOOK: Duration = Duration::from_millis(100);

/// Both pipes of a child.
#[derive(Debug)]
pub(super) struct Pipes {
    /// Standard output, then standard error.
    both: [Pipe; 2],
}

#[derive(Debug)]
struct Pipe {
    /// None once its other end is closed or it cannot be read.
    from: Option<File>,
    kept: Captured,
}

impl Pipes {
    /// Takes them from the child.
    ///
    /// # Errors
    /// `INTERNAL` if they cannot be read without blocking.
    pub(super) fn of(child: &mut Child) -> Result<Self, Fault> {
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        Ok(Self {
            both: [Pipe::new(stdout)?, Pipe::new(stderr)?],
        })
    }

    /// Waits at most this long for the end of the child or for output, and reads the output. Returns whether the
    /// child has ended.
    ///
    /// # Errors
    /// `INTERNAL` if waiting fails.
    pub(super) fn ended_within(&mut self, child: &PidFd, time: Duration) -> Result<bool, Fault> {
        let ended = self.wait(Some(child), time)?;
        self.read();
        Ok(ended)
    }

    /// Reads the remaining output after the child has ended, until everything is read, `stop` says so, or the time is
    /// up. Returns whether everything was read.
    pub(super) fn drained_within(&mut self, time: Duration, stop: &dyn Fn() -> bool) -> Result<bool, Fault> {
        let began = Instant::now();
        loop {
            self.read();
            let left = time.saturating_sub(began.elapsed());
            if self.both.iter().all(|pipe| pipe.from.is_none()) {
                return Ok(true);
            }
            if left.is_zero() || stop() {
                return Ok(false);
            }
            self.wait(None, left.min(LOOK))?;
        }
    }

    /// The output so far.
    pub(super) fn into_output(self) -> Output {
        let [stdout, stderr] = self.both.map(|pipe| pipe.kept);
        Output { stdout, stderr }
    }

    /// Whether the child has ended.
    fn wait(&self, child: Option<&PidFd>, time: Duration) -> Result<bool, Fault> {
        let open = self.both.iter().filter_map(|pipe| pipe.from.as_ref());
        let mut fds: Vec<_> = open.map(|from| PollFd::new(from, PollFlags::IN)).collect();
        fds.extend(child.map(|child| PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN)));
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(cannot(e)),
        }
        Ok(child.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()))
    }

    fn read(&mut self) {
        for pipe in &mut self.both {
            pipe.read();
        }
    }
}

impl Pipe {
    fn new(from: Option<OwnedFd>) -> Result<Self, Fault> {
        if let Some(from) = &from {
            // Of this end only.
            let flags = fcntl_getfl(from).map_err(cannot)?;
            fcntl_setfl(from, flags | OFlags::NONBLOCK).map_err(cannot)?;
        }
        Ok(Self {
            from: from.map(File::from),
            kept: Captured::default(),
        })
    }

    fn read(&mut self) {
        let mut buffer = [0u8; 4096];
        for _ in 0..ROUND_BYTES / buffer.len() {
            let Some(from) = &mut self.from else { return };
            match from.read(&mut buffer) {
                Ok(0) => self.from = None,
                Ok(n) => self.kept.push(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.from = None,
            }
        }
    }
}

fn cannot(error: Errno) -> Fault {
    Fault::new(
        FaultCode::Internal,
        format!("the output of a child process cannot be read: {error}"),
    )
}

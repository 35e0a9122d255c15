//! How much of the processors single processes have used.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use ::tests::{Context as _, Failure, TestResult};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Where the parent stands in `/proc/PID/stat`, counted behind the name: see proc(5).
const PARENT: usize = 1;

/// Of a process that runs: all its threads, those that ended too; not its children.
///
/// # Errors
/// Where there is no such process.
pub(crate) fn of(pid: i32) -> TestResult<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).map_err(Failure::new)?;
    Ok(clock.now().map_err(Failure::new)?.into())
}

/// Of this program's children that have ended and were waited for.
///
/// # Errors
/// Where the kernel does not tell.
pub(crate) fn of_ended_children() -> TestResult<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(Failure::new)?;
    let both = [usage.user_time(), usage.system_time()];
    let micros: i64 = both
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum();
    Ok(Duration::from_micros(micros.try_into().unwrap_or_default()))
}

/// The programs of one name that a process has started, as far as they were looked at while they ran.
#[derive(Debug, Default)]
pub(crate) struct Children {
    used: HashMap<i32, Duration>,
}

impl Children {
    /// Looks at those that `parent` runs now under this name.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub(crate) fn look(&mut self, parent: i32, name: &str) -> TestResult<()> {
        let running = fs::read_dir("/proc").context("/proc")?.flatten();
        let pids = running.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            if is_child(&stat, parent, name)
                && let Ok(used) = of(pid)
            {
                self.used.insert(pid, used);
            }
        }
        Ok(())
    }

    /// What all of them have used.
    pub(crate) fn used(&self) -> Duration {
        self.used.values().sum()
    }
}

fn is_child(stat: &str, parent: i32, name: &str) -> bool {
    // The name may hold anything, parentheses too.
    let Some((head, fields)) = stat.rsplit_once(") ") else {
        return false;
    };
    let named = head.split_once('(').is_some_and(|(_, found)| found == name);
    named && fields.split(' ').nth(PARENT).and_then(|text| text.parse().ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_known_by_its_parent_and_its_name() {
        let stat = "7 (a (b) c) S 3 7 7 0 -1";
        assert!(is_child(stat, 3, "a (b) c"));
        assert!(!is_child(stat, 4, "a (b) c"));
        assert!(!is_child(stat, 3, "a"));
    }

    #[test]
    fn work_is_seen() {
        let own = std::process::id().cast_signed();
        let before = of(own).expect("this process runs");
        let mut sum = 0_u64;
        while of(own).expect("this process runs") < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}

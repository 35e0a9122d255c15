//! Figures of this process, as the kernel has them.

use std::fs;

use rustix::process::{Resource, getrlimit};

pub(super) struct Figures {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    /// For how long it has been running.
    pub(super) up_seconds: f64,
}

/// None where there is no `/proc`.
pub(super) fn figures() -> Option<Figures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    read(
        &stat,
        &uptime,
        rustix::param::clock_ticks_per_second() as f64,
        rustix::param::page_size() as u64,
    )
}

fn read(stat: &str, uptime: &str, ticks: f64, page: u64) -> Option<Figures> {
    // The program's name, in brackets, may hold anything. After it come the fields from the third on (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        threads: field(20)?,
        up_seconds: up - field(22)? as f64 / ticks,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
    })
}

/// None where there is no `/proc`. It lists them, so it is bounded by how many there may be.
pub(super) fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

pub(super) fn max_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let fields: Vec<String> = (4..=30).map(|number| (number * 10).to_string()).collect();
        let stat = format!("7 (a) b)) S {}", fields.join(" "));
        let figures = read(&stat, "12.5 3.0\n", 10.0, 4_096).unwrap();
        assert_eq!(figures.cpu_seconds, 29.0);
        assert_eq!((figures.threads, figures.virtual_bytes), (200, 230));
        assert_eq!((figures.resident_bytes, figures.up_seconds), (240 * 4_096, -9.5));
        assert!(read("7 (a", "1", 1.0, 1).is_none());
    }

    #[test]
    fn this_process_has_figures() {
        let figures = super::figures().unwrap();
        assert!(figures.resident_bytes > 0 && figures.threads > 0 && figures.up_seconds >= 0.0);
        assert!(open_files().unwrap() >= 3);
    }
}

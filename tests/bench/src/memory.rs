//! How much memory a process holds.

use ::tests::service::Service;
use ::tests::{Context as _, TestResult};

/// The resident set of a service that runs, in MiB.
///
/// # Errors
/// Where it does not run.
pub(crate) fn resident(service: &Service) -> TestResult<f64> {
    let pid = service.pid().context("a service that does not run")?;
    let file = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(&file).context(&file)?;
    let kib = of_status(&status).context(format!("{file} has no VmRSS"))?;
    Ok(kib / 1024.0)
}

fn of_status(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_found() {
        assert_eq!(
            of_status("Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t2\n"),
            Some(1234.0)
        );
        assert_eq!(of_status("Name:\tx\n"), None);
    }
}

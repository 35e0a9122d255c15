//! A confined child, and nothing else: the hosts of the simulation run in a test, which cannot be run as one.

use std::process::ExitCode;

fn main() -> ExitCode {
    vdsm_storage::confine::run_if_asked().unwrap_or(ExitCode::FAILURE)
}

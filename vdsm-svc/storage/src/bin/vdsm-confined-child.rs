//! A confined child, and nothing else: for tests, whose own programs cannot be run as one. The service is its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    vdsm_storage::confine::run_if_asked().unwrap_or(ExitCode::FAILURE)
}

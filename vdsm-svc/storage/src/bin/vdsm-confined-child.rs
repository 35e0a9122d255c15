//! A program that only runs as a confined child: for tests, whose own binaries cannot do that. The service runs itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    vdsm_storage::confine::run_if_asked().unwrap_or(ExitCode::FAILURE)
}

//! The program: settings, logs, serve, exit.

use std::error::Error;
use std::process::ExitCode;

use engine_svc::{Config, config, serve};
use mimalloc::MiMalloc;
use runtime::{memory, server, settings, telemetry};
use tracing::error;

/// A message is made of many small pieces, on one thread, and freed on another: this allocator is made for that, and
/// a state edge costs a third less with it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    memory::small_pages();
    let config: Config = settings::load(config::PREFIX).unwrap_or_else(|error| error.exit());
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    if let Err(problem) = telemetry::init(config.log_format, &filter) {
        eprintln!("engine-svc: {}", chain(&problem));
        return ExitCode::from(2);
    }
    match serve(config, server::termination()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{}", chain(&problem));
            ExitCode::FAILURE
        }
    }
}

/// The error with what caused it, in one line.
fn chain(problem: &dyn Error) -> String {
    let mut text = problem.to_string();
    let mut source = problem.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

//! The program: settings, logs, serve, exit.

use std::process::ExitCode;

use engine_svc::{Config, OWNER, config, serve};
use mimalloc::MiMalloc;
use runtime::causes::causes;
use runtime::{memory, offline, program, server, settings, telemetry, threads};
use tracing::error;

/// A message is made of many small pieces, on one thread, and freed on another: this allocator is made for that, and
/// a state edge costs a third less with it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    memory::small_pages();
    if let Some(done) = offline::command(config::PREFIX, OWNER) {
        return done;
    }
    let config: Config = settings::load(config::PREFIX).unwrap_or_else(|error| error.exit());
    match threads::runtime() {
        Ok(tokio) => tokio.block_on(run(config)),
        Err(problem) => {
            eprintln!("engine-svc: no threads can be started: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> ExitCode {
    if config.health {
        return program::health(&config.data_dir).await;
    }
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    // Until the end: it writes the last lines.
    let _logging = match telemetry::init(config.log_format, &filter) {
        Ok(logging) => logging,
        Err(problem) => {
            eprintln!("engine-svc: {}", causes(&problem));
            return ExitCode::from(2);
        }
    };
    match serve(config, server::termination()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{}", causes(&problem));
            ExitCode::FAILURE
        }
    }
}

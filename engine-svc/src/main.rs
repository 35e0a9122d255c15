//! The program: settings, logs, serve, exit.

use std::process::ExitCode;

use engine_svc::{OWNER, PREFIX, Settings, check_config, pki, serve};
use mimalloc::MiMalloc;
use runtime::causes::causes;
use runtime::settings::Loaded;
use runtime::{memory, offline, program, server, settings, supervisor, telemetry, threads};
use tracing::error;

/// A message consists of many small pieces that one thread allocates and another frees: this allocator is made for
/// that, and makes a state edge a third cheaper.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    memory::small_pages();
    if let Some(done) = offline::command(PREFIX, OWNER) {
        return done;
    }
    if let Some(done) = pki::command() {
        return done;
    }
    if let Some(done) = program::health_command::<Settings>(PREFIX) {
        return done;
    }
    let loaded: Loaded<Settings> = settings::load(PREFIX).unwrap_or_else(|error| error.exit());
    if loaded.only_check {
        return program::checked(&loaded.given, check_config(&loaded.settings));
    }
    match threads::runtime() {
        Ok(tokio) => tokio.block_on(run(loaded)),
        Err(problem) => {
            eprintln!("engine-svc: cannot start threads: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(loaded: Loaded<Settings>) -> ExitCode {
    let Loaded { settings, given, .. } = loaded;
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    // Kept until the end, because it writes the last lines.
    let _logging = match telemetry::init(settings.log_format, &filter) {
        Ok(logging) => logging,
        Err(problem) => {
            eprintln!("engine-svc: {}", causes(&problem));
            return ExitCode::from(2);
        }
    };
    given.log();
    supervisor::connect();
    match serve(settings, server::termination()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{}", causes(&problem));
            ExitCode::FAILURE
        }
    }
}

//! The program `vdsm-svc`.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use mimalloc::MiMalloc;
use runtime::causes::causes;
use runtime::settings::Loaded;
use runtime::{memory, offline, program, server, settings, supervisor, telemetry, threads};
use vdsm_svc::{OWNER, PREFIX, Settings, check_config, fail_points, serve};

/// A message consists of many small pieces that one thread allocates and another frees: this allocator is made for
/// that, and makes a state edge a third cheaper.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long the program waits at its end for threads that hang in storage: their tasks are as after a crash anyway.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // First of all, while there is one thread: this run may be meant to become a confined child.
    if let Some(failed) = vdsm_storage::confine::run_if_asked() {
        return failed;
    }
    if cfg!(feature = "failpoints") && std::env::args().nth(1).as_deref() == Some("--list-fail-points") {
        return print_fail_points();
    }
    memory::small_pages();
    if let Some(done) = offline::command(PREFIX, OWNER) {
        return done;
    }
    if let Some(done) = program::health_command::<Settings>(PREFIX) {
        return done;
    }
    let loaded: Loaded<Settings> = settings::load(PREFIX).unwrap_or_else(|error| error.exit());
    if loaded.only_check {
        return program::checked(&loaded.given, check_config(&loaded.settings));
    }
    let Loaded { settings, given, .. } = loaded;
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    // Kept until the end, because it writes the last lines.
    let _logging = match telemetry::init(settings.log_format, &filter) {
        Ok(logging) => logging,
        Err(problem) => {
            eprintln!("vdsm-svc: {}", causes(&problem));
            return ExitCode::from(2);
        }
    };
    given.log();
    match run(settings) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{}", causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<ExitCode, Box<dyn Error>> {
    if settings.release_host {
        return release(&settings);
    }
    let tokio = threads::runtime()?;
    let outcome = tokio.block_on(async {
        supervisor::connect();
        serve(settings, server::termination()).await
    });
    tokio.shutdown_timeout(LINGER);
    Ok(outcome.map(|()| ExitCode::SUCCESS)?)
}

fn release(settings: &Settings) -> Result<ExitCode, Box<dyn Error>> {
    use std::io::Write as _;
    let done = vdsm_svc::release_host(&settings.data_dir, settings.host_id)?;
    writeln!(std::io::stdout(), "{done}")?;
    Ok(ExitCode::SUCCESS)
}

fn print_fail_points() -> ExitCode {
    use std::io::Write as _;
    let text: String = fail_points().iter().map(|point| format!("{point}\n")).collect();
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

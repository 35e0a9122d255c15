//! The program: settings, logs, serve, exit.

use std::error::Error as _;
use std::process::ExitCode;

use engine_svc::{Config, config, serve};
use runtime::{server, settings, telemetry};
use tracing::error;

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = settings::load(config::PREFIX).unwrap_or_else(|error| error.exit());
    if let Err(error) = telemetry::init(config.log_format, &config.log_filter) {
        eprintln!("engine-svc: {error}");
        return ExitCode::from(2);
    }
    match serve(config, server::termination()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!(error = %problem, cause = problem.source().map(ToString::to_string), "the engine ends");
            ExitCode::FAILURE
        }
    }
}

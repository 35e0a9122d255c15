//! The operators' command line: a client of the public contract and of nothing else.

mod args;
mod engine;
mod failure;
mod follow;
mod output;
mod verbs;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::Line;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::output::Output;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let line = Line::parse();
    match run(line).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let words = failure.to_string();
            if !words.is_empty() && !matches!(failure, Failure::Closed) {
                let _ = writeln!(anstream::stderr().lock(), "taskctl: {words}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(line: Line) -> Result<(), Failure> {
    let engine = Engine::new(&line.common)?;
    let output = Output::new(line.common.output);
    verbs::run(line.command, &engine, &output).await
}

/// Writes a completion script.
fn complete(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Line::command(), "taskctl", &mut std::io::stdout());
}

//! The operators' command line: a client of the public contract and of nothing else.

mod args;
mod engine;
mod failure;
mod follow;
mod output;
mod profile;
mod verbs;
mod words;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Command, Common, Line};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::output::Output;
use crate::profile::Profile;

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
    let Common {
        context,
        given,
        correlation_id,
    } = line.common;
    let command = match line.command {
        Command::Context(verb) => return verbs::context::run(verb, given),
        Command::Manual { directory } => return manual(&directory),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Line::command(), "taskctl", &mut std::io::stdout());
            return Ok(());
        }
        command => command,
    };
    let context = Profile::read()?.complete(context.as_deref(), given)?;
    let engine = Engine::new(&context, correlation_id.as_deref())?;
    let output = Output::new(context.output.unwrap_or_default());
    verbs::run(command, &engine, &output).await
}

/// Writes a page for `taskctl` and one for each of its commands.
fn manual(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Line::command(), directory)?;
    Ok(())
}

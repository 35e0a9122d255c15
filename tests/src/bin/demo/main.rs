//! Both services at work on real storage, shown to whoever watches: a VM with four disks is created and removed,
//! then another is removed while its host is killed in the middle; a disk is copied, and a second copy is cancelled.
//! Ends with `demo: ok`, or says what went wrong.

mod copying;
mod edges;
mod lead;
mod play;
mod stage;
mod tree;

use std::process::ExitCode;

use tests::{Failure, TestResult};
use tokio::signal::unix::{SignalKind, signal};

use crate::stage::Stage;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let mut stage = Stage::new();
    // Dropping the play kills both services, whatever stopped it.
    let outcome = tokio::select! {
        outcome = play::play(&mut stage) => outcome.map(|()| true),
        outcome = interrupted() => outcome.map(|()| false),
    };
    match outcome {
        Ok(true) => {
            stage.line("demo: ok");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            stage.line("demo: interrupted; both services were stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(failure) => {
            stage.line(format!("demo: failed: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns when somebody wants the demo to end.
async fn interrupted() -> TestResult<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map_err(Failure::from),
        _ = terminate.recv() => Ok(()),
    }
}

//! How fast the services are, beside the bare parts that they are made of: the programs `bench`, and `bare`, which
//! serves those parts.
//!
//! In one run, ours and the bare parts are measured by turns over some rounds, on the same disk; what is judged is
//! the median of the rounds' ratios. The disk's fdatasync is measured before and after each round, and a round in
//! which it changed, or in which other programs took much of the processors, is not counted. The services are real
//! processes, started from the binaries beside this one (built with the feature `failpoints`, for the `noop`
//! operation); `make bench` builds all of them.
#![allow(clippy::print_stdout, reason = "a report is what this program is for")]

mod bare;
mod clock;
mod cpu;
mod crowd;
mod disk;
mod etcd;
mod fleet;
mod load;
mod measure;
mod memory;
mod processors;
mod recorded;
mod records;
mod report;
mod rounds;
mod row;
mod sightings;
mod sim;
mod stats;
mod watcher;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum as _};
use tests::{Context as _, Failure, TestResult};

pub use crate::bare::server::serve;
use crate::measure::Measure;
use crate::report::Report;
use crate::rounds::Bench;

/// Measures the services beside the bare parts that they are made of.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only this measure; may be given several times.
    #[arg(long)]
    only: Vec<Measure>,
    /// How many rounds each measure takes.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Also write the report here, as JSON with the figures of each round.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Below which folder the data lies: on the disk that is to be measured. Default: beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Judge disturbed rounds too: for a first look on a busy machine.
    #[arg(long)]
    disturbed_too: bool,
    /// Exit with an error where a target is missed.
    #[arg(long)]
    strict: bool,
}

/// The program `bench`.
pub async fn measure_all() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it should be.
async fn run(arguments: Arguments) -> TestResult<bool> {
    let (report, failures) = take_all(&arguments).await?;
    println!("\n{}", report.table());
    failures.iter().for_each(|failure| println!("FAILED {failure}"));
    if let Some(path) = &arguments.json {
        report.save(path)?;
    }
    Ok(failures.is_empty() && (report.is_good() || !arguments.strict))
}

/// A measure that fails does not keep the others from being taken.
async fn take_all(arguments: &Arguments) -> TestResult<(Report, Vec<Failure>)> {
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => beside_this_program()?,
    };
    let mut bench = Bench::new(&dir, arguments.rounds.max(1))?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for measure in Measure::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(measure) {
            let start = Instant::now();
            match measure.take(&mut bench).await.context(format!("{measure:?}")) {
                Ok(measured) => rows.extend(measured),
                Err(failure) => failures.push(failure),
            }
            println!("{measure:?}: {:.0} s", start.elapsed().as_secs_f64());
        }
    }
    let report = Report::new(rows, bench.probe.of_the_run(), arguments.disturbed_too);
    Ok((report, failures))
}

/// A folder in `target`, which is on a disk where `/tmp` may be memory.
fn beside_this_program() -> TestResult<PathBuf> {
    let own = std::env::current_exe().context("where this program lies")?;
    let folder = own
        .parent()
        .ok_or_else(|| Failure::new("this program lies nowhere"))?;
    Ok(folder.join("bench-data"))
}

//! What people do with a data directory while its service is stopped: `check` and `repair`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use store::StoreError;
use store::disk::{self, Backup, Owner};

use crate::backup;
use crate::causes::causes;

/// What `--help` of a service says of them.
pub const HELP: &str = "Commands for a data directory whose service is stopped; each has --help:
  check   look at all that the directory holds, name each fault, change nothing
  backup  write all that the directory holds into one file, also while the service runs
  restore make a new data directory of such a file
  repair  say what can be saved of a damaged one and what is lost, and save it into a new one if told so";

/// Look at all that a data directory holds, and change nothing. Ends with 0 if the directory is whole, else with 1
/// and each fault named.
#[derive(Debug, Parser)]
struct Check {
    /// The data directory of a service that is stopped.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Write all that a data directory holds into one file, also while its service runs. The file is there once it is whole and
/// durable. Keep it as safe as the directory: it holds the same keys.
#[derive(Debug, Parser)]
struct BackUp {
    /// The new file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The data directory of the service.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Make a new data directory of a backup. It becomes another store, as after a repair: watchers begin anew, an engine asks storage
/// about the tasks of a host that has lost its memory, and hosts that have met a later start of an engine belong to it
/// until a person has them taken over.
#[derive(Debug, Parser)]
struct Restore {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The new data directory, which must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Say what can be saved of a damaged data directory and what is lost. The directory itself is not changed. Ends with 0 if it is whole or
/// something can be saved, else with 1.
#[derive(Debug, Parser)]
struct Repair {
    /// The damaged data directory of a service that is stopped.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    /// Save what can be saved into this new directory. It becomes another store: watchers begin anew, and an engine
    /// asks storage about the tasks of a host that has lost its memory.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Does what the first argument asks for, if it is one of these; otherwise the service is to run.
pub fn command(prefix: &str, owner: Owner) -> Option<ExitCode> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.get(1)?.to_str()?.to_owned();
    let outcome = match name.as_str() {
        "check" => check(&parse(prefix, owner, &name, arguments.split_off(1)), owner),
        "backup" => back_up(&parse(prefix, owner, &name, arguments.split_off(1)), owner),
        "restore" => restore(&parse(prefix, owner, &name, arguments.split_off(1)), owner),
        "repair" => repair(&parse(prefix, owner, &name, arguments.split_off(1)), owner),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|error| {
        eprintln!("{}", causes(&error));
        ExitCode::FAILURE
    }))
}

/// The data directory may stand in the environment, as for the service.
fn parse<T: Parser>(prefix: &str, owner: Owner, name: &str, arguments: Vec<OsString>) -> T {
    let mut command = T::command().bin_name(format!("{} {name}", owner.service));
    if let Some(dir) = std::env::var_os(format!("{prefix}_DATA_DIR")) {
        let dir = clap::builder::OsStr::from(dir);
        command = command.mut_arg("data_dir", |arg| arg.required(false).default_value(dir));
    }
    let parsed = T::from_arg_matches(&command.get_matches_from(arguments));
    parsed.unwrap_or_else(|error| error.exit())
}

fn check(asked: &Check, owner: Owner) -> Result<ExitCode, StoreError> {
    let report = disk::check(&asked.data_dir, owner)?;
    let faults = report.faults.iter().map(|fault| format!("FAULT: {fault}"));
    let verdict = match report.faults.len() {
        0 => "intact: the service can start on it".to_owned(),
        1 => "1 fault: the service will not start on it; `repair` says what can be saved".to_owned(),
        more => format!("{more} faults: the service will not start on it; `repair` says what can be saved"),
    };
    print(report.facts.iter().cloned().chain(faults).chain([verdict]))?;
    Ok(match report.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn back_up(asked: &BackUp, owner: Owner) -> Result<ExitCode, StoreError> {
    let made = backup::take(&asked.data_dir, owner, &asked.file)?;
    print([made.summary().to_string()].into_iter())?;
    Ok(ExitCode::SUCCESS)
}

fn restore(asked: &Restore, owner: Owner) -> Result<ExitCode, StoreError> {
    let backup = Backup::open(&asked.file, owner)?;
    backup.restore(&asked.data_dir)?;
    let then = format!("restored into {}", asked.data_dir.display());
    print([backup.summary().to_string(), then].into_iter())?;
    Ok(ExitCode::SUCCESS)
}

fn repair(asked: &Repair, owner: Owner) -> Result<ExitCode, StoreError> {
    let dir = asked.data_dir.display();
    if disk::check(&asked.data_dir, owner)?.faults.is_empty() {
        print(
            [format!(
                "{dir} is intact: there is nothing to repair, and nothing was changed"
            )]
            .into_iter(),
        )?;
        // If a new directory was named, it was not created.
        return Ok(match asked.into {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        });
    }
    let saved = disk::repair(&asked.data_dir, owner)?;
    let kept = saved.kept.iter().map(|line| format!("can be saved: {line}"));
    let lost = saved.lost.iter().map(|line| format!("lost: {line}"));
    let then = match &asked.into {
        None if saved.is_empty() => {
            let then = "nothing can be saved, and nothing was changed: put all files back from one copy";
            print(kept.chain(lost).chain([then.to_owned()]))?;
            return Ok(ExitCode::FAILURE);
        }
        None => "nothing was changed; --into DIR saves it into a new directory".to_owned(),
        Some(into) => {
            if saved.is_empty() {
                print(kept.chain(lost))?;
                return saved.write(into, owner).map(|()| ExitCode::FAILURE);
            }
            saved.write(into, owner)?;
            format!("saved into {}; start the service over it", into.display())
        }
    };
    print(kept.chain(lost).chain([then]))?;
    Ok(ExitCode::SUCCESS)
}

fn print(lines: impl Iterator<Item = String>) -> Result<(), StoreError> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")
            .map_err(|error| StoreError::Unavailable(format!("the standard output: {error}")))?;
    }
    Ok(())
}

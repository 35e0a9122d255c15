//! What each command does.

pub(crate) mod context;
mod disk;
mod domain;
mod event;
mod host;
mod job;
mod overview;
mod task;
mod vm;

use proto::engine::v1::{self as engine, Command as EngineCommand};
use proto::task::v1::{Allocation, VolumeFormat};

use crate::args::{Asked, Command, DiskFormat, DiskKind};
use crate::engine::{Engine, Listed, fresh_id, wire_duration};
use crate::failure::Failure;
use crate::follow;
use crate::output::{Output, Shown};

/// Does what was typed.
///
/// # Errors
/// If it was not done.
pub(crate) async fn run(command: Command, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Ps(size) => overview::ps(engine, output, size).await,
        Command::Why { what } => overview::why(engine, output, &what).await,
        Command::Tree { job } => overview::tree(engine, output, &job).await,
        Command::Doctor => overview::doctor(engine, output).await,
        Command::Whoami => output.one(&engine.who_am_i().await?),
        Command::Version => output.one(&engine.info().await?),
        Command::Job(verb) => job::run(verb, engine, output).await,
        Command::Task(verb) => task::run(verb, engine, output).await,
        Command::Vm(verb) => vm::run(verb, engine, output).await,
        Command::Disk(verb) => disk::run(verb, engine, output).await,
        Command::Domain(verb) => domain::run(verb, engine, output).await,
        Command::Host(verb) => host::run(verb, engine, output).await,
        Command::Event(verb) => event::run(verb, engine, output).await,
        // They ask no engine, and were done before one was called.
        Command::Context(_) | Command::Manual { .. } | Command::Completion { .. } => Ok(()),
    }
}

/// A list, and a word if there is more of it.
fn print_list<T: Shown>(output: &Output, listed: &Listed<T>) -> Result<(), Failure> {
    output.list(&listed.items)?;
    if listed.has_more {
        more(listed.items.len());
    }
    Ok(())
}

/// Says on standard error that a list was cut.
fn more(shown: usize) {
    use std::io::Write as _;
    let _ = writeln!(
        anstream::stderr().lock(),
        "taskctl: these are the first {shown}; --limit 0 shows all"
    );
}

/// What every request for work carries.
struct Carried {
    request_id: String,
    validate_only: bool,
    lock_wait: Option<prost_types::Duration>,
}

impl Carried {
    fn new(asked: &Asked) -> Self {
        Self {
            // So that the same request can be sent again if its answer is lost.
            request_id: asked.request_id.clone().unwrap_or_else(fresh_id),
            validate_only: asked.plan,
            lock_wait: asked.lock_wait.map(wire_duration),
        }
    }
}

/// What is to be done with the command of an answer: shown as a plan, named, or followed.
async fn accepted(
    engine: &Engine,
    output: &Output,
    asked: &Asked,
    command: Option<EngineCommand>,
) -> Result<(), Failure> {
    let command = command.unwrap_or_default();
    if asked.plan {
        return plan(output, &command);
    }
    follow_or_name(engine, output, asked.detach, &command).await
}

async fn follow_or_name(
    engine: &Engine,
    output: &Output,
    is_detached: bool,
    command: &EngineCommand,
) -> Result<(), Failure> {
    if !is_detached {
        return follow::job(engine, output, &command.command_id).await;
    }
    match output.is_for_people() {
        true => output.say(&command.command_id)?,
        false => output.item(&engine.job(&command.command_id).await?)?,
    }
    Ok(())
}

/// A plan as a tree of what would be done.
fn plan(output: &Output, command: &EngineCommand) -> Result<(), Failure> {
    if !output.is_for_people() {
        return output.item(command);
    }
    output.say("This is a plan; nothing was done.")?;
    plan_of(output, command, 0)
}

fn plan_of(output: &Output, command: &EngineCommand, depth: usize) -> Result<(), Failure> {
    let indent = "  ".repeat(depth);
    output.say(&format!("{indent}{}", crate::output::kind_of(command)))?;
    let Some(plan) = &command.plan else { return Ok(()) };
    for task in &plan.tasks {
        output.say(&format!(
            "{indent}  task on host {}: {}",
            task.host_id,
            crate::output::operation(task)
        ))?;
    }
    plan.parts
        .iter()
        .try_for_each(|part| plan_of(output, part, depth + 1))
}

fn format(kind: &DiskKind) -> VolumeFormat {
    match kind.format {
        DiskFormat::Raw => VolumeFormat::Raw,
        DiskFormat::Qcow2 => VolumeFormat::Cow,
    }
}

fn allocation(kind: &DiskKind) -> Allocation {
    match kind.preallocate {
        true => Allocation::Preallocated,
        false => Allocation::Sparse,
    }
}

/// A disk of a VM that is to be made.
fn disk_spec(domain_id: &str, capacity_bytes: i64, kind: &DiskKind) -> engine::DiskSpec {
    engine::DiskSpec {
        domain_id: domain_id.to_owned(),
        capacity_bytes,
        format: format(kind) as i32,
        allocation: allocation(kind) as i32,
        description: kind.description.clone(),
        ..Default::default()
    }
}

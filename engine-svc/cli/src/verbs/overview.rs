//! What is asked for most: what runs, why it does not go on, and whether all is well.

use std::collections::HashMap;
use std::time::SystemTime;

use proto::engine::v1::{
    AwaitedLocks, Command, CommandState, EntityRef, Holder, Job, StepKind, host, list_commands_request,
    list_jobs_request, waiting_for,
};

use super::job::UNFINISHED;
use super::more;
use crate::args::ListSize;
use crate::engine::{Engine, id, lasts};
use crate::failure::{Failure, in_words};
use crate::output::{Output, command_state, connection, kind_of, operation, task_state, waiting};
use crate::words;

/// A chain of causes is as deep as a command tree, and a little more.
const DEEPEST: usize = 16;

pub(super) async fn ps(engine: &Engine, output: &Output, size: ListSize) -> Result<(), Failure> {
    let states: Vec<_> = UNFINISHED.iter().map(|state| *state as i32).collect();
    let filter = list_jobs_request::Filter {
        states: states.clone(),
        ..Default::default()
    };
    let jobs = engine.jobs(filter, size.limit).await?;
    if !output.is_for_people() {
        return output.list(&jobs.items);
    }
    if jobs.items.is_empty() {
        return output.say("nothing runs, and nothing waits");
    }
    let filter = list_commands_request::Filter {
        states,
        roots_only: true,
        ..Default::default()
    };
    let commands = engine.commands(filter, size.limit).await?;
    let waits: HashMap<_, _> = commands
        .items
        .into_iter()
        .map(|command| (command.command_id.clone(), waiting(command.waiting_for.as_ref())))
        .collect();
    let now = SystemTime::now();
    let rows = jobs.items.iter().map(|job| {
        vec![
            job.job_id.clone(),
            command_state(job.state),
            format!("{:.0} %", job.percent.floor()),
            job.description.clone(),
            waits.get(&job.job_id).cloned().unwrap_or_default(),
            words::took(job.start_time.as_ref(), None, now),
            job.user.clone(),
        ]
    });
    output.table(
        &["JOB", "STATE", "DONE", "WHAT", "WAITS FOR", "FOR", "BY"],
        rows.collect(),
    )?;
    if jobs.has_more {
        more(jobs.items.len());
    }
    Ok(())
}

/// A job's steps as an indented list.
pub(super) fn steps(output: &Output, job: &Job, command: &Command) -> Result<(), Failure> {
    let waits = waiting(command.waiting_for.as_ref());
    if !waits.is_empty() {
        output.say(&format!("Waits for: {waits}"))?;
    }
    if command.cancelable {
        let undo = match command.undo.is_empty() {
            true => "undo nothing",
            false => &command.undo,
        };
        output.say(&format!("Cancel would: {undo}"))?;
    }
    output.say("")?;
    let depths = depths(job);
    for step in &job.steps {
        let indent = "  ".repeat(depths.get(step.step_id.as_str()).copied().unwrap_or_default());
        let state = words::state(step.state().as_str_name(), "STEP_STATE_");
        let fault = step
            .fault
            .as_ref()
            .map_or(String::new(), |fault| format!(": {}", in_words(fault)));
        let percent = match step.kind() {
            StepKind::Task if step.percent > 0.0 => format!(" {:.0} %", step.percent.floor()),
            _ => String::new(),
        };
        output.say(&format!(
            "{state:<15} {indent}{}{percent}{fault}",
            step.description
        ))?;
    }
    Ok(())
}

fn depths(job: &Job) -> HashMap<&str, usize> {
    let mut depths: HashMap<&str, usize> = HashMap::new();
    for step in &job.steps {
        let above = depths
            .get(step.parent_step_id.as_str())
            .map_or(0, |depth| depth + 1);
        depths.insert(&step.step_id, above);
    }
    depths
}

/// A job's commands and tasks, as the engine has them.
pub(super) async fn tree(engine: &Engine, output: &Output, job: &str) -> Result<(), Failure> {
    let root = crate::engine::only_id("job", job)?;
    let filter = list_commands_request::Filter {
        root_command_id: root.clone(),
        ..Default::default()
    };
    let mut commands = engine.commands(filter, 0).await?.items;
    if commands.is_empty() {
        commands.push(engine.command(&root).await?);
    }
    if !output.is_for_people() {
        return output.list(&commands);
    }
    let by_id: HashMap<_, _> = commands
        .iter()
        .map(|command| (command.command_id.as_str(), command))
        .collect();
    let mut waiting_to_be_told = vec![(root.as_str(), 0)];
    while let Some((id, depth)) = waiting_to_be_told.pop() {
        let Some(command) = by_id.get(id) else { continue };
        let indent = "  ".repeat(depth);
        let state = command_state(command.state);
        output.say(&format!(
            "{indent}{} {}: {state}",
            kind_of(command),
            command.command_id
        ))?;
        for task in &command.task_ids {
            let task = engine.task(task).await?;
            let (what, state) = (operation(&task), task_state(&task));
            output.say(&format!(
                "{indent}  task {} on host {}: {what}: {state}",
                task.task_id, task.host_id
            ))?;
        }
        let children = command.child_command_ids.iter().rev();
        waiting_to_be_told.extend(children.map(|child| (child.as_str(), depth + 1)));
    }
    Ok(())
}

/// The chain down to what holds something up.
pub(super) async fn why(engine: &Engine, output: &Output, what: &str) -> Result<(), Failure> {
    let found = match id(what) {
        None => engine.entity(what).await?,
        Some(id) => match engine.command(&id).await {
            Ok(command) => return why_command(engine, output, command).await,
            Err(Failure::Refused(status)) if status.code() == tonic::Code::NotFound => id,
            Err(failure) => return Err(failure),
        },
    };
    let held_by = held_by(engine, &found).await?;
    if held_by.is_empty() {
        return output.say(&format!("nobody holds {found}: nothing is in the way"));
    }
    for holder in held_by {
        match holder.command_id.as_str() {
            "" => output.say(&format!(
                "held by foreign task {} of host {}, {}",
                holder.foreign_task_id,
                holder.host_id,
                lasts(holder.since.as_ref())
            ))?,
            command => {
                output.say(&format!("held by job {command} {}", lasts(holder.since.as_ref())))?;
                why_command(engine, output, engine.command(command).await?).await?;
            }
        }
    }
    Ok(())
}

/// Who holds an entity, of whatever kind it is.
async fn held_by(engine: &Engine, id: &str) -> Result<Vec<Holder>, Failure> {
    let is_missing = |failure: &Failure| matches!(failure, Failure::Refused(status) if status.code() == tonic::Code::NotFound);
    let vm = engine
        .get_vm(id)
        .await
        .map(|vm| vm.vm.unwrap_or_default().held_by);
    if !vm.as_ref().is_err_and(is_missing) {
        return vm;
    }
    let disk = engine.disk(id).await.map(|disk| disk.held_by);
    if !disk.as_ref().is_err_and(is_missing) {
        return disk;
    }
    let domain = engine.get_domain(id).await.map(|domain| domain.held_by);
    if !domain.as_ref().is_err_and(is_missing) {
        return domain;
    }
    let host = engine.get_host(id).await.map(|host| host.held_by);
    match host.as_ref().is_err_and(is_missing) {
        true => Err(Failure::NotFound(format!(
            "there is no job, VM, disk, storage domain or host {id}"
        ))),
        false => host,
    }
}

async fn why_command(engine: &Engine, output: &Output, command: Command) -> Result<(), Failure> {
    let mut at = command;
    for depth in 0..DEEPEST {
        let indent = "  ".repeat(depth);
        let line = format!(
            "{indent}{} {} is {}",
            kind_of(&at),
            at.command_id,
            command_state(at.state)
        );
        output.say(&line)?;
        if let Some(failure) = Failure::of_command(&at) {
            return output.say(&format!(
                "{indent}  {}",
                failure.to_string().replace('\n', &format!("\n{indent}  "))
            ));
        }
        let Some(waits) = at.waiting_for.clone() else {
            return match at.state() {
                CommandState::Succeeded => Ok(()),
                _ => output.say(&format!("{indent}  the engine is at work on it")),
            };
        };
        let deeper = format!("{indent}  ");
        match waits.what {
            Some(waiting_for::What::CommandId(child)) => at = engine.command(&child).await?,
            Some(waiting_for::What::TaskId(task)) => return why_task(engine, output, &task, &deeper).await,
            Some(waiting_for::What::HostId(host)) => return why_host(engine, output, &host, &deeper).await,
            Some(waiting_for::What::Locks(locks)) => return why_locks(output, &locks, &deeper),
            Some(waiting_for::What::Attention(fault)) => {
                return output.say(&format!("{deeper}it waits for a decision: {}", in_words(&fault)));
            }
            None => return output.say(&format!("{deeper}{}", waits.note)),
        }
    }
    Ok(())
}

async fn why_task(engine: &Engine, output: &Output, id: &str, indent: &str) -> Result<(), Failure> {
    let task = engine.task(id).await?;
    output.say(&format!(
        "{indent}task {id}: {}: {}",
        operation(&task),
        task_state(&task)
    ))?;
    if let Some(fault) = &task.fault {
        output.say(&format!("{indent}  {}", in_words(fault)))?;
    }
    why_host(engine, output, &task.host_id, &format!("{indent}  ")).await
}

async fn why_host(engine: &Engine, output: &Output, id: &str, indent: &str) -> Result<(), Failure> {
    let host = engine.get_host(id).await?;
    let (name, state, since) = (
        &host.name,
        connection(&host),
        lasts(host.connection_since.as_ref()),
    );
    output.say(&format!(
        "{indent}host {name} ({id}) is {state} {since}; open tasks: {}",
        host.open_tasks
    ))?;
    match &host.connection_fault {
        Some(fault) => output.say(&format!("{indent}  {}", in_words(fault))),
        None => Ok(()),
    }
}

fn why_locks(output: &Output, locks: &AwaitedLocks, indent: &str) -> Result<(), Failure> {
    for lock in &locks.by {
        let entity = lock
            .entity
            .as_ref()
            .map(|EntityRef { id, .. }| id.clone())
            .unwrap_or_default();
        let holder = lock.holder.clone().unwrap_or_default();
        let verb = if lock.waits {
            "waits for it and came first"
        } else {
            "has it"
        };
        let who = match holder.command_id.is_empty() {
            true => format!("foreign task {}", holder.foreign_task_id),
            false => format!("job {}", holder.command_id),
        };
        output.say(&format!(
            "{indent}{entity}: {who} {verb}, {}",
            lasts(holder.since.as_ref())
        ))?;
    }
    match locks.left_out {
        0 => Ok(()),
        more => output.say(&format!("{indent}and {more} more")),
    }
}

/// Clocks that differ by more than this mislead whoever compares times, in seconds.
const SKEW: f64 = 5.0;

/// The engine's version and clock, and whether the engine takes commands. False if something is wrong.
async fn about_engine(engine: &Engine, output: &Output) -> Result<bool, Failure> {
    let asked = SystemTime::now();
    let info = match engine.info().await {
        Ok(info) => info,
        Err(Failure::Refused(status)) if status.code() == tonic::Code::Unimplemented => {
            output.say("note  the engine is older than this taskctl and does not say its version")?;
            return Ok(true);
        }
        Err(failure) => return Err(failure),
    };
    let answered = SystemTime::now();
    output.say(&format!("ok    the engine is of version {}", info.version))?;
    let mut is_well = true;
    if let Some(fault) = &info.refuses_commands {
        is_well = false;
        output.say(&format!(
            "WRONG the engine takes no commands: {}",
            in_words(fault)
        ))?;
    }
    if let Some(skew) = words::outside(info.time.as_ref(), asked, answered).filter(|skew| *skew > SKEW) {
        is_well = false;
        output.say(&format!(
            "WRONG the clocks of the engine and of this machine differ by {skew:.0} s: set them right"
        ))?;
    }
    Ok(is_well)
}

/// Looks at what can be wrong, from the wire up.
pub(super) async fn doctor(engine: &Engine, output: &Output) -> Result<(), Failure> {
    let hosts = engine.hosts(0).await?.items;
    output.say(&format!("ok    the engine at {} answers", engine.server))?;
    output.say(&format!("ok    taskctl {}", env!("CARGO_PKG_VERSION")))?;
    let mut is_well = about_engine(engine, output).await?;
    for one in &hosts {
        let (name, id) = (&one.name, &one.host_id);
        let since = lasts(one.connection_since.as_ref());
        if one.connection() == host::Connection::Connected {
            output.say(&format!("ok    host {name} ({id}) is connected {since}"))?;
            continue;
        }
        is_well = false;
        let fault = one
            .connection_fault
            .as_ref()
            .map_or(String::new(), |fault| format!(": {}", in_words(fault)));
        output.say(&format!(
            "WRONG host {name} ({id}) is {} {since}{fault}",
            connection(one)
        ))?;
    }
    if hosts.is_empty() {
        output.say("note  no host was added yet: taskctl host add NAME ADDRESS --id UUID")?;
    }
    let filter = list_jobs_request::Filter {
        states: vec![CommandState::NeedsAttention as i32],
        ..Default::default()
    };
    let resting = engine.jobs(filter, 0).await?.items;
    for job in &resting {
        is_well = false;
        output.say(&format!(
            "WRONG job {} needs attention: {}: taskctl why {0}",
            job.job_id, job.description
        ))?;
    }
    match is_well {
        true => output.say("all is well"),
        false => Err(Failure::Job {
            state: CommandState::NeedsAttention,
            words: "something needs attention; see the lines that begin with WRONG".to_owned(),
        }),
    }
}

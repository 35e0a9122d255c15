use std::time::Duration;

use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::{
    AbandonCommandRequest, CancelCommandRequest, CommandState, Job as EngineJob, RetryCommandRequest,
    WaitCommandRequest, list_jobs_request, watch_jobs_request,
};

use super::{follow_or_name, print_list};
use crate::args::{Job, JobFilter, State};
use crate::engine::{Engine, call, only_id, wire_duration};
use crate::failure::Failure;
use crate::follow;
use crate::output::Output;

/// States of jobs that go on, or wait for somebody.
pub(super) const UNFINISHED: &[CommandState] = &[
    CommandState::Pending,
    CommandState::Active,
    CommandState::Compensating,
    CommandState::NeedsAttention,
];

/// How long one call waits; it is made again until the job has ended. Less than `--timeout`, which says how long an answer
/// may take.
fn patience(timeout: Duration) -> Duration {
    timeout / 2
}

pub(super) async fn run(verb: Job, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Job::List { filter, size } => {
            let filter = list_jobs_request::Filter {
                states: states(&filter),
                entity_id: match &filter.about {
                    Some(about) => engine.entity(about).await?,
                    None => String::new(),
                },
                user: filter.by.unwrap_or_default(),
                correlation_id: filter.correlated.unwrap_or_default(),
                ..Default::default()
            };
            print_list(output, &engine.jobs(filter, size.limit).await?)
        }
        Job::Show { job } => {
            let job = engine.job(&only_id("job", &job)?).await?;
            output.one(&job)?;
            if !output.is_for_people() {
                return Ok(());
            }
            let command = engine.command(&job.job_id).await?;
            super::overview::steps(output, &job, &command)
        }
        Job::Watch { job: Some(job) } => follow::job(engine, output, &only_id("job", &job)?).await,
        Job::Watch { job: None } => {
            let filter = watch_jobs_request::Filter::default();
            follow::all::<EngineJob>(engine, output, filter, Duration::ZERO).await
        }
        Job::Wait { job } => {
            let command_id = only_id("job", &job)?;
            loop {
                let request = WaitCommandRequest {
                    command_id: command_id.clone(),
                    timeout: Some(wire_duration(patience(engine.timeout()))),
                };
                let answer = call!(engine, CommandServiceClient, wait_command, request)?;
                let command = answer.command.unwrap_or_default();
                if answer.done {
                    output.item(&engine.job(&command_id).await?)?;
                    return Failure::of_command(&command).map_or(Ok(()), Err);
                }
            }
        }
        Job::Cancel { job, detach } => {
            let request = CancelCommandRequest {
                command_id: only_id("job", &job)?,
            };
            let answer = call!(engine, CommandServiceClient, cancel_command, request)?;
            // That it was cancelled is what was asked for.
            match follow_or_name(engine, output, detach, &answer.command.unwrap_or_default()).await {
                Err(Failure::Job {
                    state: CommandState::Cancelled,
                    ..
                }) => Ok(()),
                other => other,
            }
        }
        Job::Retry { job, detach } => {
            let request = RetryCommandRequest {
                command_id: only_id("job", &job)?,
            };
            let answer = call!(engine, CommandServiceClient, retry_command, request)?;
            follow_or_name(engine, output, detach, &answer.command.unwrap_or_default()).await
        }
        Job::Abandon { job, reason } => {
            let request = AbandonCommandRequest {
                command_id: only_id("job", &job)?,
                reason,
            };
            let answer = call!(engine, CommandServiceClient, abandon_command, request)?;
            output.one(&answer.command.unwrap_or_default())
        }
    }
}

fn states(filter: &JobFilter) -> Vec<i32> {
    if filter.unfinished {
        return UNFINISHED.iter().map(|state| *state as i32).collect();
    }
    let states = filter.state.iter().map(|state| match state {
        State::Pending => CommandState::Pending,
        State::Active => CommandState::Active,
        State::Compensating => CommandState::Compensating,
        State::Succeeded => CommandState::Succeeded,
        State::Failed => CommandState::Failed,
        State::Cancelled => CommandState::Cancelled,
        State::NeedsAttention => CommandState::NeedsAttention,
    });
    states.map(|state| state as i32).collect()
}

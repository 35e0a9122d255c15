use std::time::Duration;

use proto::engine::v1::task_service_client::TaskServiceClient;
use proto::engine::v1::{AsyncTask, ListTasksRequest, list_tasks_request, watch_tasks_request};

use super::print_list;
use crate::args::Task;
use crate::engine::{Engine, only_id, pages};
use crate::failure::Failure;
use crate::follow;
use crate::output::Output;

pub(super) async fn run(verb: Task, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Task::List { host, job, size } => {
            let request = ListTasksRequest {
                filter: Some(list_tasks_request::Filter {
                    host_id: host_id(engine, host).await?,
                    root_command_id: job_id(job)?,
                    ..Default::default()
                }),
                ..Default::default()
            };
            let found = pages!(engine, TaskServiceClient, list_tasks, request, tasks, size.limit)?;
            print_list(output, &found)
        }
        Task::Show { task } => output.one(&engine.task(&only_id("task", &task)?).await?),
        Task::Watch { host, job } => {
            let filter = watch_tasks_request::Filter {
                host_id: host_id(engine, host).await?,
                root_command_id: job_id(job)?,
                ..Default::default()
            };
            follow::all::<AsyncTask>(engine, output, filter, Duration::ZERO).await
        }
    }
}

async fn host_id(engine: &Engine, host: Option<String>) -> Result<String, Failure> {
    match host {
        Some(host) => engine.host(&host).await,
        None => Ok(String::new()),
    }
}

fn job_id(job: Option<String>) -> Result<String, Failure> {
    job.map_or(Ok(String::new()), |job| only_id("job", &job))
}

//! Tasks, jobs, events and commands: reads and lists.

use proto::engine::v1::*;
use tests::World;
use tests::audit::at_rest;
use tests::failure::TestResult;
use tests::ids::fresh;
use tonic::Code;

use super::table::*;

/// One list's request with a change of its filter.
macro_rules! filtered {
    ($request:ident, $module:ident, $change:expr) => {
        $request {
            filter: Some(only::<$module::Filter>($change)),
            ..$request::default()
        }
    };
}

#[tokio::test]
async fn reads_and_pages_are_refused_by_field() -> TestResult<()> {
    let (world, _) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let (commands, tasks) = (&world.client.commands, &world.client.tasks);
    let (jobs, events) = (&world.client.jobs, &world.client.events);
    let id = fresh();

    refuse!(table, for x in bad_ids(), tasks.get_task(GetTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, tasks.get_task(GetTaskRequest { task_id: id.clone() }) => refused(Code::NotFound, "TASK_NOT_FOUND", &id));
    refuse!(table, for x in bad_ids(), jobs.get_job(GetJobRequest { job_id: x }) => invalid("job_id"));
    refuse!(table, jobs.get_job(GetJobRequest { job_id: id.clone() }) => refused(Code::NotFound, "COMMAND_NOT_FOUND", &id));

    refuse!(table, for x in BAD_PAGE_SIZES, commands.list_commands(only(|r: &mut ListCommandsRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in BAD_PAGE_SIZES, tasks.list_tasks(only(|r: &mut ListTasksRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in BAD_PAGE_SIZES, jobs.list_jobs(only(|r: &mut ListJobsRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in BAD_PAGE_SIZES, events.list_events(only(|r: &mut ListEventsRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), commands.list_commands(only(|r: &mut ListCommandsRequest| r.page_token = x)) => invalid("page_token"));
    refuse!(table, for x in bad_page_tokens(), tasks.list_tasks(only(|r: &mut ListTasksRequest| r.page_token = x)) => invalid("page_token"));
    refuse!(table, for x in bad_page_tokens(), jobs.list_jobs(only(|r: &mut ListJobsRequest| r.page_token = x)) => invalid("page_token"));
    refuse!(table, for x in bad_page_tokens(), events.list_events(only(|r: &mut ListEventsRequest| r.page_token = x)) => invalid("page_token"));
    table.verdict()
}

#[tokio::test]
async fn filters_are_refused_by_field() -> TestResult<()> {
    let (world, _) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let (commands, tasks) = (&world.client.commands, &world.client.tasks);
    let (jobs, events) = (&world.client.jobs, &world.client.events);
    macro_rules! of_commands {
        ($change:expr) => {
            filtered!(ListCommandsRequest, list_commands_request, $change)
        };
    }
    macro_rules! of_tasks {
        ($change:expr) => {
            filtered!(ListTasksRequest, list_tasks_request, $change)
        };
    }
    macro_rules! of_jobs {
        ($change:expr) => {
            filtered!(ListJobsRequest, list_jobs_request, $change)
        };
    }
    macro_rules! of_events {
        ($change:expr) => {
            filtered!(ListEventsRequest, list_events_request, $change)
        };
    }
    let long = "u".repeat(10_000);

    refuse!(table, for x in BAD_ENUMS, commands.list_commands(of_commands!(|f| f.states = vec![x])) => invalid("filter.states[0]"));
    refuse!(table, for x in BAD_ENUMS, commands.list_commands(of_commands!(|f| f.kinds = vec![1, x])) => invalid("filter.kinds[1]"));
    refuse!(table, for x in malformed_ids(), commands.list_commands(of_commands!(|f| f.root_command_id = x)) => invalid("filter.root_command_id"));
    refuse!(table, for x in malformed_ids(), commands.list_commands(of_commands!(|f| f.entity_id = x)) => invalid("filter.entity_id"));
    refuse!(table, commands.list_commands(of_commands!(|f| f.user.clone_from(&long))) => invalid("filter.user"));
    refuse!(table, commands.list_commands(of_commands!(|f| f.correlation_id.clone_from(&long))) => invalid("filter.correlation_id"));

    refuse!(table, for x in BAD_ENUMS, tasks.list_tasks(of_tasks!(|f| f.states = vec![x])) => invalid("filter.states[0]"));
    refuse!(table, for x in BAD_ENUMS, tasks.list_tasks(of_tasks!(|f| f.async_states = vec![x])) => invalid("filter.async_states[0]"));
    refuse!(table, for x in malformed_ids(), tasks.list_tasks(of_tasks!(|f| f.host_id = x)) => invalid("filter.host_id"));
    refuse!(table, for x in malformed_ids(), tasks.list_tasks(of_tasks!(|f| f.command_id = x)) => invalid("filter.command_id"));
    refuse!(table, for x in malformed_ids(), tasks.list_tasks(of_tasks!(|f| f.root_command_id = x)) => invalid("filter.root_command_id"));
    refuse!(table, for x in malformed_ids(), tasks.list_tasks(of_tasks!(|f| f.entity_id = x)) => invalid("filter.entity_id"));

    refuse!(table, for x in BAD_ENUMS, jobs.list_jobs(of_jobs!(|f| f.states = vec![x])) => invalid("filter.states[0]"));
    refuse!(table, for x in BAD_ENUMS, jobs.list_jobs(of_jobs!(|f| f.kinds = vec![x])) => invalid("filter.kinds[0]"));
    refuse!(table, for x in malformed_ids(), jobs.list_jobs(of_jobs!(|f| f.entity_id = x)) => invalid("filter.entity_id"));

    refuse!(table, for x in UNKNOWN_ENUMS, events.list_events(of_events!(|f| f.minimum_severity = x)) => invalid("filter.minimum_severity"));
    refuse!(table, for x in UNKNOWN_ENUMS, events.list_events(of_events!(|f| f.kind = x)) => invalid("filter.kind"));
    refuse!(table, for x in malformed_ids(), events.list_events(of_events!(|f| f.root_command_id = x)) => invalid("filter.root_command_id"));
    refuse!(table, for x in malformed_ids(), events.list_events(of_events!(|f| f.entity_id = x)) => invalid("filter.entity_id"));
    table.verdict()
}

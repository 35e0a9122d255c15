//! The Watch RPCs of both services.

use prost_types::Duration;
use proto::task::v1::{WatchStart, watch_start};
use proto::{engine::v1 as engine, host::v1 as vdsm};
use tests::World;
use tests::audit::at_rest;
use tests::failure::TestResult;
use tests::ids::fresh;
use tonic::Code;

use super::table::*;

const NANOSECOND: Option<Duration> = Some(Duration { seconds: 0, nanos: 1 });
const PAST: Option<Duration> = Some(Duration {
    seconds: -1,
    nanos: 0,
});

fn after(token: &str) -> Option<WatchStart> {
    let start = watch_start::Start::After(token.to_owned());
    Some(WatchStart { start: Some(start) })
}

/// Texts that are not a token.
fn bad_tokens() -> Vec<String> {
    let mut texts: Vec<String> = ["", "x", "not.a.token", "\u{0}"].map(str::to_owned).into();
    texts.push("f".repeat(10_000));
    texts
}

/// What all Watch RPCs refuse.
macro_rules! refuse_all {
    ($table:ident, $client:ident.$rpc:ident, $request:path) => {
        type Request = $request;
        refuse!($table, $client.$rpc(only(|r: &mut Request| r.heartbeat_interval = NANOSECOND)) => invalid("heartbeat_interval"));
        refuse!($table, $client.$rpc(only(|r: &mut Request| r.heartbeat_interval = PAST)) => invalid("heartbeat_interval"));
        refuse!($table, $client.$rpc(only(|r: &mut Request| r.ended_within = PAST)) => invalid("ended_within"));
        refuse!($table, for x in bad_tokens(), $client.$rpc(only(|r: &mut Request| r.start = after(&x))) => invalid("start.after"));
        // A token of another store.
        let strange = format!("{}.{:016x}.1", "a".repeat(32), 1);
        let out_of_range = refused(Code::OutOfRange, "TOKEN_OUT_OF_RANGE", "");
        refuse!($table, $client.$rpc(only(|r: &mut Request| r.start = after(&strange))) => out_of_range);
    };
}

/// A Watch request with a change of its filter.
macro_rules! filtered {
    ($package:ident::$request:ident, $module:ident, $change:expr) => {
        $package::$request {
            filter: Some(only::<$package::$module::Filter>($change)),
            ..$package::$request::default()
        }
    };
}

#[tokio::test]
async fn engine_watches_are_refused_by_field() -> TestResult<()> {
    let (world, _) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let (commands, tasks) = (&world.client.commands, &world.client.tasks);
    let (jobs, events) = (&world.client.jobs, &world.client.events);
    {
        refuse_all!(table, commands.watch_commands, engine::WatchCommandsRequest);
    }
    {
        refuse_all!(table, tasks.watch_tasks, engine::WatchTasksRequest);
    }
    {
        refuse_all!(table, jobs.watch_jobs, engine::WatchJobsRequest);
    }
    {
        refuse_all!(table, events.watch_events, engine::WatchEventsRequest);
    }

    macro_rules! of_commands {
        ($change:expr) => {
            filtered!(
                engine::WatchCommandsRequest,
                watch_commands_request,
                $change
            )
        };
    }
    macro_rules! of_tasks {
        ($change:expr) => {
            filtered!(engine::WatchTasksRequest, watch_tasks_request, $change)
        };
    }
    macro_rules! of_jobs {
        ($change:expr) => {
            filtered!(engine::WatchJobsRequest, watch_jobs_request, $change)
        };
    }
    macro_rules! of_events {
        ($change:expr) => {
            filtered!(engine::WatchEventsRequest, watch_events_request, $change)
        };
    }
    refuse!(table, for x in malformed_ids(), commands.watch_commands(of_commands!(|f| f.command_ids = vec![x])) => invalid("filter.command_ids[0]"));
    refuse!(table, for x in malformed_ids(), commands.watch_commands(of_commands!(|f| f.root_command_id = x)) => invalid("filter.root_command_id"));
    refuse!(table, for x in malformed_ids(), commands.watch_commands(of_commands!(|f| f.entity_id = x)) => invalid("filter.entity_id"));
    refuse!(table, for x in BAD_ENUMS, commands.watch_commands(of_commands!(|f| f.kinds = vec![x])) => invalid("filter.kinds[0]"));
    refuse!(table, for x in malformed_ids(), tasks.watch_tasks(of_tasks!(|f| f.task_ids = vec![fresh(), x])) => invalid("filter.task_ids[1]"));
    refuse!(table, for x in malformed_ids(), tasks.watch_tasks(of_tasks!(|f| f.host_id = x)) => invalid("filter.host_id"));
    refuse!(table, for x in BAD_ENUMS, tasks.watch_tasks(of_tasks!(|f| f.kinds = vec![x])) => invalid("filter.kinds[0]"));
    refuse!(table, for x in malformed_ids(), jobs.watch_jobs(of_jobs!(|f| f.job_ids = vec![x])) => invalid("filter.job_ids[0]"));
    refuse!(table, for x in BAD_ENUMS, jobs.watch_jobs(of_jobs!(|f| f.kinds = vec![x])) => invalid("filter.kinds[0]"));
    refuse!(table, for x in malformed_ids(), events.watch_events(of_events!(|f| f.entity_id = x)) => invalid("filter.entity_id"));
    refuse!(table, for x in UNKNOWN_ENUMS, events.watch_events(of_events!(|f| f.minimum_severity = x)) => invalid("filter.minimum_severity"));
    table.verdict()
}

#[tokio::test]
async fn host_watches_are_refused_by_field() -> TestResult<()> {
    let world = World::start().await?;
    let mut table = Table::new(&world).await?;
    let tasks = &world.host_client.tasks;
    {
        refuse_all!(table, tasks.watch_tasks, vdsm::WatchTasksRequest);
    }
    macro_rules! of_tasks {
        ($change:expr) => {
            filtered!(vdsm::WatchTasksRequest, watch_tasks_request, $change)
        };
    }
    refuse!(table, for x in malformed_ids(), tasks.watch_tasks(of_tasks!(|f| f.task_ids = vec![x])) => invalid("filter.task_ids[0]"));
    refuse!(table, for x in malformed_ids(), tasks.watch_tasks(of_tasks!(|f| f.entity_id = x)) => invalid("filter.entity_id"));
    refuse!(table, for x in malformed_ids(), tasks.watch_tasks(of_tasks!(|f| f.engine_id = x)) => invalid("filter.engine_id"));
    table.verdict()
}

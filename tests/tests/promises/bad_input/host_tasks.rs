//! Tasks of a host that no engine owns: everybody may change it, so only the input can be refused.

use proto::host::v1::*;
use proto::task::v1::Operation;
use proto::task::v1::operation::Verb;
use tests::World;
use tests::failure::TestResult;
use tests::ids::fresh;
use tests::requests::{KINDS, create_volume, start_task};
use tonic::Code;

use super::table::*;

#[tokio::test]
async fn task_requests_are_refused_by_field() -> TestResult<()> {
    let world = World::start().await?;
    let domain = world.host_client.create_domain().await?;
    let over = start_task(Verb::CreateVolume(create_volume(&domain, KINDS[0])));
    world.host_client.run(&over).await?;
    let mut table = Table::new(&world).await?;
    let tasks = &world.host_client.tasks;
    let create = || start_task(Verb::CreateVolume(create_volume(&domain, KINDS[0])));
    let id = fresh();

    refuse!(table, for x in bad_ids(), tasks.start_task(with(create(), |r| r.task_id = x)) => invalid("task_id"));
    refuse!(table, tasks.start_task(with(create(), |r| r.operation = None)) => invalid("operation"));
    let verbless = Some(Operation { verb: None });
    refuse!(table, tasks.start_task(with(create(), |r| r.operation = verbless)) => invalid("operation"));
    let reused = refused(Code::AlreadyExists, "TASK_ID_REUSED", &over.task_id);
    refuse!(table, tasks.start_task(with(create(), |r| r.task_id.clone_from(&over.task_id))) => reused);

    refuse!(table, for x in bad_ids(), tasks.get_task(GetTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, tasks.get_task(GetTaskRequest { task_id: id.clone() }) => refused(Code::NotFound, "TASK_NOT_FOUND", &id));
    refuse!(table, for x in bad_ids(), tasks.abort_task(AbortTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, for x in bad_ids(), tasks.clear_task(ClearTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, for x in BAD_ENUMS, tasks.list_tasks(only(|r: &mut ListTasksRequest| r.states = vec![x])) => invalid("states[0]"));
    refuse!(table, for x in [1_001, 30_000], tasks.list_tasks(only(|r: &mut ListTasksRequest| r.states = vec![1; x])) => invalid("states"));
    refuse!(table, for x in BAD_PAGE_SIZES, tasks.list_tasks(only(|r: &mut ListTasksRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), tasks.list_tasks(only(|r: &mut ListTasksRequest| r.page_token = x)) => invalid("page_token"));
    table.verdict()
}

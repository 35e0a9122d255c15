//! Tasks of a host that no engine owns: anybody may change it, so only the input can be refused.

use proto::host::v1::*;
use proto::task::v1::operation::Verb;
use proto::task::v1::{CopyVolume, CreateVolume, Operation, VolumeAddress};
use tests::World;
use tests::failure::Outcome;
use tests::ids::fresh;
use tests::requests::{KINDS, copy_volume, create_volume, delete_image, start_task};
use tonic::Code;

use super::table::*;

#[tokio::test]
async fn task_requests_are_refused_by_field() -> Outcome<()> {
    let world = World::start().await?;
    let domain = world.host_client.create_domain().await?;
    let over = start_task(Verb::CreateVolume(create_volume(&domain, KINDS[0])));
    world.host_client.run(&over).await?;
    let mut table = Table::new(&world).await?;
    let tasks = &world.host_client.tasks;
    let create = |change: &dyn Fn(&mut CreateVolume)| {
        start_task(Verb::CreateVolume(with(create_volume(&domain, KINDS[0]), change)))
    };
    let delete = |domain: &str, image: &str| start_task(Verb::DeleteImage(delete_image(domain, image)));
    let at = |field: &str| invalid(format!("operation.create_volume.{field}"));
    let id = fresh();

    refuse!(table, for x in bad_ids(), tasks.start_task(with(create(&|_| {}), |r| r.task_id = x)) => invalid("task_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(create(&|v| v.domain_id = x.clone())) => at("domain_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(create(&|v| v.image_id = x.clone())) => at("image_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(create(&|v| v.volume_id = x.clone())) => at("volume_id"));
    refuse!(table, for x in BAD_SIZES, tasks.start_task(create(&|v| v.capacity_bytes = x)) => at("capacity_bytes"));
    refuse!(table, for x in BAD_ENUMS, tasks.start_task(create(&|v| v.format = x)) => at("format"));
    refuse!(table, for x in BAD_ENUMS, tasks.start_task(create(&|v| v.allocation = x)) => at("allocation"));
    refuse!(table, for x in bad_descriptions(), tasks.start_task(create(&|v| v.description = x.clone())) => at("description"));
    refuse!(table, for x in bad_ids(), tasks.start_task(delete(&x, &id)) => invalid("operation.delete_image.domain_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(delete(&domain, &x)) => invalid("operation.delete_image.image_id"));
    refuse!(table, tasks.start_task(with(create(&|_| {}), |r| r.operation = None)) => invalid("operation"));
    let verbless = Some(Operation { verb: None });
    refuse!(table, tasks.start_task(with(create(&|_| {}), |r| r.operation = verbless)) => invalid("operation"));
    let reused = refused(Code::AlreadyExists, "TASK_ID_REUSED", &over.task_id);
    refuse!(table, tasks.start_task(with(create(&|_| {}), |r| r.task_id.clone_from(&over.task_id))) => reused);

    refuse!(table, for x in bad_ids(), tasks.get_task(GetTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, tasks.get_task(GetTaskRequest { task_id: id.clone() }) => refused(Code::NotFound, "TASK_NOT_FOUND", &id));
    refuse!(table, for x in bad_ids(), tasks.abort_task(AbortTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, for x in bad_ids(), tasks.clear_task(ClearTaskRequest { task_id: x }) => invalid("task_id"));
    refuse!(table, for x in BAD_ENUMS, tasks.list_tasks(only(|r: &mut ListTasksRequest| r.states = vec![x])) => invalid("states[0]"));
    refuse!(table, for x in BAD_PAGE_SIZES, tasks.list_tasks(only(|r: &mut ListTasksRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), tasks.list_tasks(only(|r: &mut ListTasksRequest| r.page_token = x)) => invalid("page_token"));
    table.verdict()
}

#[tokio::test]
async fn copies_are_refused_by_field() -> Outcome<()> {
    let world = World::start().await?;
    let domain = world.host_client.create_domain().await?;
    let mut table = Table::new(&world).await?;
    let tasks = &world.host_client.tasks;
    let source = VolumeAddress {
        domain_id: domain,
        image_id: fresh(),
        volume_id: fresh(),
    };
    let copy = |change: &dyn Fn(&mut CopyVolume)| {
        start_task(Verb::CopyVolume(with(copy_volume(&source, KINDS[2]), change)))
    };
    let from = |x: &str, field: fn(&mut VolumeAddress) -> &mut String| {
        let x = x.to_owned();
        copy(&move |c| *field(c.source.get_or_insert_default()) = x.clone())
    };
    let to = |x: &str, field: fn(&mut VolumeAddress) -> &mut String| {
        let x = x.to_owned();
        copy(&move |c| *field(c.target.get_or_insert_default()) = x.clone())
    };
    let at = |field: &str| invalid(format!("operation.copy_volume.{field}"));

    refuse!(table, tasks.start_task(copy(&|c| c.source = None)) => at("source"));
    refuse!(table, tasks.start_task(copy(&|c| c.target = None)) => at("target"));
    refuse!(table, for x in bad_ids(), tasks.start_task(from(&x, |a| &mut a.domain_id)) => at("source.domain_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(from(&x, |a| &mut a.image_id)) => at("source.image_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(from(&x, |a| &mut a.volume_id)) => at("source.volume_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(to(&x, |a| &mut a.domain_id)) => at("target.domain_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(to(&x, |a| &mut a.image_id)) => at("target.image_id"));
    refuse!(table, for x in bad_ids(), tasks.start_task(to(&x, |a| &mut a.volume_id)) => at("target.volume_id"));
    refuse!(table, tasks.start_task(to(&source.image_id, |a| &mut a.image_id)) => at("target.image_id"));
    refuse!(table, for x in BAD_ENUMS, tasks.start_task(copy(&|c| c.format = x)) => at("format"));
    refuse!(table, for x in BAD_ENUMS, tasks.start_task(copy(&|c| c.allocation = x)) => at("allocation"));
    refuse!(table, for x in bad_descriptions(), tasks.start_task(copy(&|c| c.description = x.clone())) => at("description"));
    table.verdict()
}

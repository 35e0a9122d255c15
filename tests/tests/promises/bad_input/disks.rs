//! Disks.

use proto::engine::v1::*;
use tests::World;
use tests::audit::at_rest;
use tests::failure::TestResult;
use tests::ids::fresh;
use tests::requests::*;
use tonic::Code;

use super::table::*;

#[tokio::test]
async fn disk_requests_are_refused_by_field() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let disks = &world.client.disks;
    let new = |change: &dyn Fn(&mut CreateDiskRequest)| with(create_disk(&domain, KINDS[0]), change);
    let copy = |change: &dyn Fn(&mut CopyDiskRequest)| with(copy_disk(&fresh(), &domain, KINDS[0]), change);
    let id = fresh();

    refuse!(table, for x in malformed_ids(), disks.create_disk(new(&|r| r.disk_id = x.clone())) => invalid("disk_id"));
    refuse!(table, for x in malformed_ids(), disks.create_disk(new(&|r| r.request_id = x.clone())) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), disks.create_disk(new(&|r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, for x in bad_ids(), disks.create_disk(new(&|r| r.domain_id = x.clone())) => invalid("domain_id"));
    refuse!(table, for x in BAD_SIZES, disks.create_disk(new(&|r| r.capacity_bytes = x)) => invalid("capacity_bytes"));
    refuse!(table, for x in BAD_ENUMS, disks.create_disk(new(&|r| r.format = x)) => invalid("format"));
    refuse!(table, for x in BAD_ENUMS, disks.create_disk(new(&|r| r.allocation = x)) => invalid("allocation"));
    refuse!(table, for x in bad_descriptions(), disks.create_disk(new(&|r| r.description = x.clone())) => invalid("description"));
    refuse!(table, disks.create_disk(new(&|r| r.domain_id.clone_from(&id))) => unknown(&id));

    refuse!(table, for x in bad_ids(), disks.copy_disk(copy(&|r| r.source_disk_id = x.clone())) => invalid("source_disk_id"));
    refuse!(table, for x in malformed_ids(), disks.copy_disk(copy(&|r| r.disk_id = x.clone())) => invalid("disk_id"));
    refuse!(table, for x in malformed_ids(), disks.copy_disk(copy(&|r| r.request_id = x.clone())) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), disks.copy_disk(copy(&|r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, for x in bad_ids(), disks.copy_disk(copy(&|r| r.domain_id = x.clone())) => invalid("domain_id"));
    refuse!(table, for x in BAD_ENUMS, disks.copy_disk(copy(&|r| r.format = x)) => invalid("format"));
    refuse!(table, for x in BAD_ENUMS, disks.copy_disk(copy(&|r| r.allocation = x)) => invalid("allocation"));
    refuse!(table, for x in bad_descriptions(), disks.copy_disk(copy(&|r| r.description = x.clone())) => invalid("description"));
    refuse!(table, disks.copy_disk(copy(&|r| r.source_disk_id.clone_from(&id))) => unknown(&id));

    let extend = |change: &dyn Fn(&mut ExtendDiskRequest)| with(extend_disk(&id, DISK_BYTES), change);
    refuse!(table, for x in bad_ids(), disks.extend_disk(extend(&|r| r.disk_id = x.clone())) => invalid("disk_id"));
    refuse!(table, for x in malformed_ids(), disks.extend_disk(extend(&|r| r.request_id = x.clone())) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), disks.extend_disk(extend(&|r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, for x in BAD_SIZES, disks.extend_disk(extend(&|r| r.capacity_bytes = x)) => invalid("capacity_bytes"));
    refuse!(table, disks.extend_disk(extend(&|_| ())) => unknown(&id));

    refuse!(table, for x in bad_ids(), disks.remove_disk(remove_disk(&x)) => invalid("disk_id"));
    refuse!(table, for x in malformed_ids(), disks.remove_disk(with(remove_disk(&id), |r| r.request_id = x)) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), disks.remove_disk(with(remove_disk(&id), |r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, disks.remove_disk(remove_disk(&id)) => unknown(&id));
    refuse!(table, for x in bad_ids(), disks.attach_disk(attach_disk(&x, &id)) => invalid("disk_id"));
    refuse!(table, for x in bad_ids(), disks.attach_disk(attach_disk(&id, &x)) => invalid("vm_id"));
    refuse!(table, for x in malformed_ids(), disks.attach_disk(with(attach_disk(&id, &id), |r| r.request_id = x)) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), disks.attach_disk(with(attach_disk(&id, &id), |r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, disks.attach_disk(attach_disk(&id, &fresh())) => unknown(&id));
    refuse!(table, for x in bad_ids(), disks.detach_disk(detach_disk(&x, &id)) => invalid("disk_id"));
    refuse!(table, for x in bad_ids(), disks.detach_disk(detach_disk(&id, &x)) => invalid("vm_id"));
    refuse!(table, for x in malformed_ids(), disks.detach_disk(with(detach_disk(&id, &id), |r| r.request_id = x)) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), disks.detach_disk(with(detach_disk(&id, &id), |r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, disks.detach_disk(detach_disk(&id, &fresh())) => unknown(&id));

    refuse!(table, for x in bad_ids(), disks.get_disk(GetDiskRequest { disk_id: x }) => invalid("disk_id"));
    refuse!(table, disks.get_disk(GetDiskRequest { disk_id: id.clone() }) => unknown(&id));
    refuse!(table, for x in malformed_ids(), disks.list_disks(only(|r: &mut ListDisksRequest| r.vm_id = x)) => invalid("vm_id"));
    refuse!(table, for x in malformed_ids(), disks.list_disks(only(|r: &mut ListDisksRequest| r.domain_id = x)) => invalid("domain_id"));
    refuse!(table, for x in BAD_PAGE_SIZES, disks.list_disks(only(|r: &mut ListDisksRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), disks.list_disks(only(|r: &mut ListDisksRequest| r.page_token = x)) => invalid("page_token"));
    table.verdict()
}

#[tokio::test]
async fn what_the_state_of_a_disk_forbids_changes_nothing() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let vm = create_vm("web", vec![disk(&domain, KINDS[0])]);
    let other = create_vm("other", Vec::new());
    let own = create_disk(&domain, KINDS[0]);
    for command in [
        world.create_vm(&vm).await?,
        world.create_vm(&other).await?,
        world.client.ask_create_disk(&own).await?,
    ] {
        world.succeeds(&command).await?;
    }
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let disks = &world.client.disks;
    let (attached, vm_id) = (&vm.disks[0].disk_id, &vm.vm_id);
    let taken = |what: &str| refused(Code::AlreadyExists, "ENTITY_EXISTS", what);
    let reused = |what: &str| refused(Code::AlreadyExists, "REQUEST_ID_REUSED", what);
    let is_attached = || refused(Code::FailedPrecondition, "DISK_ATTACHED", attached);
    let is_not = |what: &str| refused(Code::FailedPrecondition, "DISK_NOT_ATTACHED", what);

    refuse!(table, disks.create_disk(with(create_disk(&domain, KINDS[0]), |r| r.disk_id.clone_from(attached))) => taken(attached));
    refuse!(table, disks.create_disk(with(own.clone(), |r| r.capacity_bytes += 4096)) => reused(&own.request_id));
    refuse!(table, disks.copy_disk(with(copy_disk(attached, &domain, KINDS[0]), |r| r.disk_id.clone_from(&own.disk_id))) => taken(&own.disk_id));
    refuse!(table, disks.copy_disk(copy_disk(attached, vm_id, KINDS[0])) => unknown(vm_id));
    refuse!(table, for x in [1, DISK_BYTES - 1, DISK_BYTES], disks.extend_disk(extend_disk(attached, x)) => invalid("capacity_bytes"));
    refuse!(table, disks.extend_disk(extend_disk(vm_id, 2 * DISK_BYTES)) => unknown(vm_id));
    refuse!(table, disks.remove_disk(remove_disk(attached)) => is_attached());
    refuse!(table, for x in [vm_id, &other.vm_id], disks.attach_disk(attach_disk(attached, x)) => is_attached());
    refuse!(table, disks.detach_disk(detach_disk(attached, &other.vm_id)) => is_not(attached));
    refuse!(table, disks.detach_disk(detach_disk(&own.disk_id, vm_id)) => is_not(&own.disk_id));
    refuse!(table, disks.attach_disk(attach_disk(&own.disk_id, attached)) => unknown(attached));
    table.verdict()
}

//! VMs, and the disks that are created with them.

use proto::engine::v1::*;
use tests::World;
use tests::audit::at_rest;
use tests::client::with_metadata;
use tests::failure::TestResult;
use tests::ids::fresh;
use tests::requests::{KINDS, create_vm, disk, four_disks, remove_vm};
use tonic::Code;

use super::table::*;

#[tokio::test]
async fn vm_requests_are_refused_by_field() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let vms = &world.client.vms;
    let vm = |change: &dyn Fn(&mut CreateVmRequest)| with(create_vm("web", four_disks(&domain)), change);
    let disk_3 = |change: &dyn Fn(&mut DiskSpec)| vm(&|r| change(&mut r.disks[3]));
    let id = fresh();

    refuse!(table, for x in malformed_ids(), vms.create_vm(vm(&|r| r.vm_id = x.clone())) => invalid("vm_id"));
    refuse!(table, for x in malformed_ids(), vms.create_vm(vm(&|r| r.request_id = x.clone())) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), vms.create_vm(vm(&|r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, for x in bad_names(), vms.create_vm(vm(&|r| r.name = x.clone())) => invalid("name"));
    refuse!(table, for x in bad_descriptions(), vms.create_vm(vm(&|r| r.description = x.clone())) => invalid("description"));
    refuse!(table, vms.create_vm(vm(&|r| r.disks = vec![disk(&domain, KINDS[0]); 65])) => invalid("disks"));
    refuse!(table, vms.create_vm(vm(&|r| r.disks = vec![disk(&domain, KINDS[0]); 2])) => invalid("disks[1].disk_id"));
    refuse!(table, for x in malformed_ids(), vms.create_vm(disk_3(&|d| d.disk_id = x.clone())) => invalid("disks[3].disk_id"));
    refuse!(table, for x in bad_ids(), vms.create_vm(disk_3(&|d| d.domain_id = x.clone())) => invalid("disks[3].domain_id"));
    refuse!(table, for x in BAD_SIZES, vms.create_vm(disk_3(&|d| d.capacity_bytes = x)) => invalid("disks[3].capacity_bytes"));
    refuse!(table, for x in BAD_ENUMS, vms.create_vm(disk_3(&|d| d.format = x)) => invalid("disks[3].format"));
    refuse!(table, for x in BAD_ENUMS, vms.create_vm(disk_3(&|d| d.allocation = x)) => invalid("disks[3].allocation"));
    refuse!(table, for x in bad_descriptions(), vms.create_vm(disk_3(&|d| d.description = x.clone())) => invalid("disks[3].description"));
    refuse!(table, vms.create_vm(disk_3(&|d| d.domain_id.clone_from(&id))) => unknown(&id));

    refuse!(table, for x in bad_ids(), vms.remove_vm(remove_vm(&x)) => invalid("vm_id"));
    refuse!(table, for x in malformed_ids(), vms.remove_vm(with(remove_vm(&id), |r| r.request_id = x)) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), vms.remove_vm(with(remove_vm(&id), |r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, vms.remove_vm(remove_vm(&id)) => unknown(&id));
    refuse!(table, for x in bad_ids(), vms.get_vm(GetVmRequest { vm_id: x }) => invalid("vm_id"));
    refuse!(table, vms.get_vm(GetVmRequest { vm_id: id.clone() }) => unknown(&id));
    refuse!(table, for x in BAD_PAGE_SIZES, vms.list_vms(only(|r: &mut ListVmsRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), vms.list_vms(only(|r: &mut ListVmsRequest| r.page_token = x)) => invalid("page_token"));
    table.verdict()
}

#[tokio::test]
async fn what_is_there_already_is_not_made_again() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let vm = create_vm("web", four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let vms = &world.client.vms;
    let other = || create_vm("other", four_disks(&domain));
    let taken = |what: &str| refused(Code::AlreadyExists, "ENTITY_EXISTS", what);
    let reused = |what: &str| refused(Code::AlreadyExists, "REQUEST_ID_REUSED", what);

    refuse!(table, vms.create_vm(with(other(), |r| r.name.clone_from(&vm.name))) => taken(&vm.name));
    refuse!(table, vms.create_vm(with(other(), |r| r.vm_id.clone_from(&vm.vm_id))) => taken(&vm.vm_id));
    let disk_id = &vm.disks[0].disk_id;
    refuse!(table, vms.create_vm(with(other(), |r| r.disks[0].disk_id.clone_from(disk_id))) => taken(disk_id));
    // The same request, except for one letter in its body.
    refuse!(table, vms.create_vm(with(vm.clone(), |r| r.name.push('x'))) => reused(&vm.request_id));
    refuse!(table, vms.create_vm(with(other(), |r| r.request_id.clone_from(&vm.request_id))) => reused(&vm.request_id));
    table.verdict()
}

#[tokio::test]
async fn who_calls_is_input_as_well() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let vms = &world.client.vms;
    let long = "u".repeat(10_000);
    let by = |key, value| with_metadata(create_vm("web", four_disks(&domain)), &[(key, value)]);
    refuse!(table, vms.create_vm(by("x-user", &long)) => invalid("metadata.x-user"));
    refuse!(table, vms.create_vm(by("x-correlation-id", &long)) => invalid("metadata.x-correlation-id"));
    table.verdict()
}

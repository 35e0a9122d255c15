//! A disk is created, attached to a VM, detached and removed, on its own; GetVm and GetDisk always agree about it.

use proto::engine::v1::*;
use proto::task::v1::VolumeFormat;
use tests::audit::all_is_well;
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::patience::persist;
use tests::watch::Watchers;
use tests::{World, requests, storage, words};
use tonic::Code;

/// What GetVm, GetDisk and the list of disks by VM say about a disk. They must agree.
async fn vm_of(world: &World, disk_id: &str, vm_ids: &[&str]) -> TestResult<String> {
    let said = persist(|| {
        let (mut disks, disk_id) = (world.client.disks.clone(), disk_id.to_owned());
        async move { disks.get_disk(GetDiskRequest { disk_id }).await }
    });
    let said = said
        .await?
        .into_inner()
        .disk
        .context("a disk without a body")?
        .vm_id;
    for vm_id in vm_ids.iter().map(ToString::to_string) {
        let request = GetVmRequest { vm_id: vm_id.clone() };
        let vm = world.client.vms.clone().get_vm(request).await?.into_inner();
        let names = |ids: &[String]| ids.iter().any(|id| id == disk_id);
        let by_list = names(&vm.vm.context("a VM without a body")?.disk_ids);
        let bodies: Vec<_> = vm.disks.into_iter().map(|disk| disk.disk_id).collect();
        let request = ListDisksRequest {
            vm_id: vm_id.clone(),
            ..ListDisksRequest::default()
        };
        let listed = world.client.disks.clone().list_disks(request).await?.into_inner();
        let listed: Vec<_> = listed.disks.into_iter().map(|disk| disk.disk_id).collect();
        let views = [by_list, names(&bodies), names(&listed), said == vm_id];
        ensure(views.iter().all(|view| *view == views[0]), || {
            format!("on the VM's list, with its VM, listed by it, saying so itself: {views:?}")
        })?;
    }
    Ok(said)
}

#[tokio::test]
async fn a_disk_goes_from_vm_to_vm_and_home_across_restarts_of_the_engine() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let (first, second) = ("first", "second");
    let first = requests::create_vm(first, vec![requests::disk(&domain, requests::KINDS[0])]);
    let second = requests::create_vm(second, Vec::new());
    let disk = requests::create_disk(&domain, requests::KINDS[2]);
    let disk_id = disk.disk_id.as_str();
    for command in [
        world.create_vm(&first).await?,
        world.create_vm(&second).await?,
        world.client.ask_create_disk(&disk).await?,
    ] {
        world.succeeds(&command).await?;
    }
    let vms = [first.vm_id.as_str(), second.vm_id.as_str()];
    ensure(vm_of(&world, disk_id, &vms).await?.is_empty(), || {
        "a new disk is somebody's".to_owned()
    })?;
    for vm_id in vms {
        let attach = requests::attach_disk(disk_id, vm_id);
        let attached = world.client.ask_attach_disk(&attach).await?;
        is_done(&world, &attached, "DISK_ATTACHED").await?;
        ensure(vm_of(&world, disk_id, &vms).await? == vm_id, || {
            "attached to another".to_owned()
        })?;
        world.kill_engine().await?;
        world.restart_engine().await?;
        ensure(vm_of(&world, disk_id, &vms).await? == vm_id, || {
            "a restart has moved it".to_owned()
        })?;
        let again = world.client.ask_attach_disk(&attach).await?;
        ensure(again == attached, || "a repeat became another command".to_owned())?;
        let detach = requests::detach_disk(disk_id, vm_id);
        let detached = world.client.ask_detach_disk(&detach).await?;
        is_done(&world, &detached, "DISK_DETACHED").await?;
        world.kill_engine().await?;
        world.restart_engine().await?;
        ensure(vm_of(&world, disk_id, &vms).await?.is_empty(), || {
            "it came back by itself".to_owned()
        })?;
    }
    let removed = world
        .client
        .ask_remove_disk(&requests::remove_disk(disk_id))
        .await?;
    world.succeeds(&removed).await?;
    let records = all_is_well(&world.view(), &watchers).await?;
    let left: Vec<_> = records.disks.iter().map(|disk| &disk.disk_id).collect();
    ensure(left == [&first.disks[0].disk_id], || format!("{left:?}"))?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.len() == 1, || format!("images are left: {images:?}"))
}

/// Checks that the command has succeeded without a task, that its job is done, and that people were told once.
async fn is_done(world: &World, command_id: &str, code: &str) -> TestResult<()> {
    let command = world.settled(command_id).await?;
    let done = words::command_state(command.state) == "SUCCEEDED" && command.task_ids.is_empty();
    ensure(done, || format!("{command:#?}"))?;
    let request = GetJobRequest {
        job_id: command_id.to_owned(),
    };
    let job = world.client.jobs.clone().get_job(request).await?.into_inner().job;
    let job = job.context("a job without a body")?;
    ensure(
        job.percent == 100.0 && words::command_state(job.state) == "SUCCEEDED",
        || format!("{job:#?}"),
    )?;
    let request = ListEventsRequest {
        filter: Some(list_events_request::Filter {
            root_command_id: command_id.to_owned(),
            ..list_events_request::Filter::default()
        }),
        ..ListEventsRequest::default()
    };
    let events = world
        .client
        .events
        .clone()
        .list_events(request)
        .await?
        .into_inner()
        .events;
    let codes: Vec<_> = events.iter().map(|event| event.code.as_str()).collect();
    ensure(codes == [code], || format!("the events are {codes:?}"))
}

#[tokio::test]
async fn a_disk_of_its_own_is_as_it_was_asked_for_and_goes_whole() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let mut asked = Vec::new();
    for kind in requests::KINDS {
        let request = requests::create_disk(&domain, kind);
        let created = world.client.ask_create_disk(&request).await?;
        world.succeeds(&created).await?;
        asked.push(request);
    }
    let records = all_is_well(&world.view(), &watchers).await?;
    for request in &asked {
        let disk = records.disks.iter().find(|disk| disk.disk_id == request.disk_id);
        let disk = disk.context("a disk is missing")?;
        let whole = disk
            .observation
            .as_ref()
            .is_some_and(|seen| seen.presence == i32::from(disk_observation::Presence::Whole));
        let same = (disk.capacity_bytes, disk.format, disk.allocation)
            == (request.capacity_bytes, request.format, request.allocation);
        ensure(whole && same && disk.vm_id.is_empty(), || {
            format!("asked for {request:?}, and it is {disk:?}")
        })?;
        let removed = world
            .client
            .ask_remove_disk(&requests::remove_disk(&disk.disk_id))
            .await?;
        world.succeeds(&removed).await?;
    }
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.disks.is_empty(), || format!("{:?}", records.disks))?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.is_empty(), || format!("images are left: {images:?}"))
}

#[tokio::test]
async fn a_vm_takes_with_it_what_was_given_to_it_and_leaves_what_was_taken() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let given = requests::create_disk(&domain, requests::KINDS[0]);
    for command in [
        world.create_vm(&vm).await?,
        world.client.ask_create_disk(&given).await?,
    ] {
        world.succeeds(&command).await?;
    }
    let taken = &vm.disks[1].disk_id;
    for command in [
        world
            .client
            .ask_attach_disk(&requests::attach_disk(&given.disk_id, &vm.vm_id))
            .await?,
        world
            .client
            .ask_detach_disk(&requests::detach_disk(taken, &vm.vm_id))
            .await?,
        world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?,
    ] {
        world.succeeds(&command).await?;
    }
    let records = all_is_well(&world.view(), &watchers).await?;
    let left: Vec<_> = records.disks.iter().map(|disk| &disk.disk_id).collect();
    ensure(left == [taken], || format!("{left:?}"))
}

#[tokio::test]
async fn while_a_vm_is_being_removed_its_disks_are_held_by_the_remover() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    // While the host is away, the removal lasts as long as this test wants.
    world.kill_host().await?;
    world.host_is(host::Connection::Away).await?;
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    let disk_id = &vm.disks[0].disk_id;
    let mut disks = world.client.disks.clone();
    let refusals = [
        disks.remove_disk(requests::remove_disk(disk_id)).await.err(),
        disks
            .detach_disk(requests::detach_disk(disk_id, &vm.vm_id))
            .await
            .err(),
        disks
            .attach_disk(requests::attach_disk(disk_id, &vm.vm_id))
            .await
            .err(),
        disks
            .copy_disk(requests::copy_disk(disk_id, &domain, requests::KINDS[0]))
            .await
            .err(),
    ];
    for refusal in refusals {
        let refusal = Refusal::from(&refusal.context("it was accepted")?);
        let busy = (refusal.code, refusal.reason.as_str()) == (Code::Aborted, "ENTITY_BUSY");
        ensure(busy && refusal.fault.message.contains(&removed), || {
            format!("{refusal:?}")
        })?;
    }
    world.restart_host().await?;
    world.succeeds(&removed).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn a_disk_that_is_stopped_in_the_making_leaves_nothing() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    world.kill_host().await?;
    world.host_is(host::Connection::Away).await?;
    let disk = requests::create_disk(&domain, requests::KINDS[3]);
    let created = world.client.ask_create_disk(&disk).await?;
    for _ in 0..2 {
        world.client.cancel(&created).await?;
    }
    world.kill_engine().await?;
    world.restart_engine().await?;
    world.restart_host().await?;
    let command = world.settled(&created).await?;
    ensure(words::command_state(command.state) == "CANCELLED", || {
        format!("{command:#?}")
    })?;
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.disks.is_empty(), || format!("{:?}", records.disks))?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.is_empty(), || format!("images are left: {images:?}"))
}

#[tokio::test]
async fn a_plan_is_shown_and_nothing_is_done() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let request = CreateDiskRequest {
        validate_only: true,
        lock_wait: None,
        ..requests::create_disk(&domain, (VolumeFormat::Cow, requests::KINDS[0].1))
    };
    let answer = world
        .client
        .disks
        .clone()
        .create_disk(request.clone())
        .await?
        .into_inner();
    let command = answer.command.context("no command")?;
    let parts = command.plan.as_ref().map_or(0, |plan| plan.parts.len());
    ensure(
        answer.token.is_empty() && answer.disk_id == request.disk_id && parts == 1,
        || format!("{command:#?}"),
    )?;
    let disk_id = request.disk_id;
    let got = world
        .client
        .disks
        .clone()
        .get_disk(GetDiskRequest { disk_id })
        .await;
    ensure(got.is_err_and(|status| status.code() == Code::NotFound), || {
        "it was made".to_owned()
    })
}

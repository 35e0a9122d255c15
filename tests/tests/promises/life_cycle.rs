//! The main job: a VM with four disks is created and removed, every change is streamed, and nothing is left.

use std::collections::BTreeSet;

use proto::engine::v1::{
    CommandKind, GetJobRequest, GetVmRequest, ListEventsRequest, StepState, disk_observation::Presence,
    list_events_request,
};
use proto::host::v1::{Legality, ListVolumesRequest, VolumeRole};
use tests::audit::{Records, all_is_well};
use tests::failure::{Context as _, TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests, storage, words};

#[tokio::test]
async fn a_vm_with_four_disks_comes_and_goes() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    watchers.tell_edges().await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    let records = all_is_well(&world.view(), &watchers).await?;
    the_vm_is_as_it_was_asked_for(&world, &vm.vm_id, &vm.disks).await?;
    the_volumes_are_legal(&world, &domain, &vm.disks).await?;
    the_tree_is(
        &records,
        &created,
        &[(CommandKind::CreateVm, 1), (CommandKind::CreateImage, 4)],
    )?;
    every_edge_was_told(&watchers, &records, &created)?;
    the_job_is_done(&world, &created).await?;

    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.succeeds(&removed).await?;
    let records = all_is_well(&world.view(), &watchers).await?;
    the_tree_is(
        &records,
        &removed,
        &[
            (CommandKind::RemoveVm, 1),
            (CommandKind::RemoveAllVmImages, 1),
            (CommandKind::RemoveImage, 4),
        ],
    )?;
    every_edge_was_told(&watchers, &records, &removed)?;
    the_job_is_done(&world, &removed).await?;
    events_tell_of(&world, &removed).await?;
    ensure(records.vms.is_empty() && records.disks.is_empty(), || {
        format!("records are left: {:?} {:?}", records.vms, records.disks)
    })?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.is_empty(), || format!("images are left: {images:?}"))?;
    drop(watchers);
    world.stop().await
}

async fn the_vm_is_as_it_was_asked_for(
    world: &World,
    vm_id: &str,
    specs: &[proto::engine::v1::DiskSpec],
) -> TestResult<()> {
    let request = GetVmRequest {
        vm_id: vm_id.to_owned(),
    };
    let answer = world.client.vms.clone().get_vm(request).await?.into_inner();
    let vm = answer.vm.context("a VM without a body")?;
    let wanted: Vec<_> = specs.iter().map(|spec| spec.disk_id.clone()).collect();
    ensure(vm.disk_ids == wanted, || {
        format!("its disks are {:?}", vm.disk_ids)
    })?;
    for spec in specs {
        let disk = answer.disks.iter().find(|disk| disk.disk_id == spec.disk_id);
        let disk = disk.context("a disk is missing")?;
        // A creation that succeeded proves as much as a look at storage would.
        let whole = disk
            .observation
            .as_ref()
            .is_some_and(|seen| seen.presence == i32::from(Presence::Whole));
        let same = (disk.capacity_bytes, disk.format, disk.allocation)
            == (spec.capacity_bytes, spec.format, spec.allocation);
        ensure(whole && same, || {
            format!("asked for {spec:?}, and it is {disk:?}")
        })?;
    }
    Ok(())
}

async fn the_volumes_are_legal(
    world: &World,
    domain_id: &str,
    specs: &[proto::engine::v1::DiskSpec],
) -> TestResult<()> {
    for spec in specs {
        let request = ListVolumesRequest {
            domain_id: domain_id.to_owned(),
            image_id: spec.disk_id.clone(),
            ..Default::default()
        };
        let volumes = world
            .host_client
            .storage
            .clone()
            .list_volumes(request)
            .await?
            .into_inner()
            .volumes;
        ensure(volumes.len() == 1, || {
            format!("{} volumes in an image", volumes.len())
        })?;
        let volume = &volumes[0];
        let right = volume.legality == i32::from(Legality::Legal)
            && volume.role == i32::from(VolumeRole::Leaf)
            && (volume.format, volume.allocation) == (spec.format, spec.allocation)
            && volume.capacity_bytes == spec.capacity_bytes
            && volume.status == "OK"
            && volume.fault.is_none();
        ensure(right, || {
            format!("asked for {spec:?}, and the volume is {volume:?}")
        })?;
    }
    Ok(())
}

/// Checks the number of commands of each kind; each leaf has one task, and all of them succeeded.
fn the_tree_is(records: &Records, root: &str, kinds: &[(CommandKind, usize)]) -> TestResult<()> {
    let tree: Vec<_> = records
        .commands
        .iter()
        .filter(|c| c.root_command_id == root)
        .collect();
    for (kind, count) in kinds {
        let found = tree.iter().filter(|c| c.kind == i32::from(*kind)).count();
        ensure(found == *count, || {
            format!("{found} commands of kind {kind:?}, not {count}")
        })?;
    }
    let wanted: usize = kinds.iter().map(|(_, count)| count).sum();
    ensure(tree.len() == wanted, || {
        format!("{} commands in the tree", tree.len())
    })?;
    for command in tree {
        let succeeded = words::command_state(command.state) == "SUCCEEDED";
        let one_task = command.child_command_ids.is_empty() == (command.task_ids.len() == 1);
        ensure(succeeded && one_task, || format!("{command:#?}"))?;
    }
    Ok(())
}

/// Checks that each task passed all states, and that both services' streams announced each state once.
fn every_edge_was_told(watchers: &Watchers, records: &Records, root: &str) -> TestResult<()> {
    const ROAD: [&str; 5] = ["INIT", "PREPARING", "QUEUED", "RUNNING", "FINISHED"];
    let tasks: BTreeSet<_> = records
        .tasks
        .iter()
        .filter(|task| task.root_command_id == root)
        .map(|task| &task.task_id)
        .collect();
    ensure(tasks.len() == 4, || format!("{} tasks", tasks.len()))?;
    for task_id in tasks {
        let host = edges(
            watchers
                .host
                .record()
                .history(task_id)
                .iter()
                .map(|task| task.state),
        );
        let engine = edges(
            watchers
                .engine
                .tasks
                .record()
                .history(task_id)
                .iter()
                .map(|task| task.state),
        );
        ensure(host == ROAD, || format!("the host told {host:?}"))?;
        ensure(engine == ROAD, || format!("the engine told {engine:?}"))?;
    }
    Ok(())
}

/// The states without immediate repeats, and without those before the first edge.
fn edges(states: impl Iterator<Item = i32>) -> Vec<String> {
    let mut words: Vec<String> = states
        .filter(|state| *state != 0)
        .map(words::task_state)
        .collect();
    words.dedup();
    words
}

async fn the_job_is_done(world: &World, job_id: &str) -> TestResult<()> {
    let request = GetJobRequest {
        job_id: job_id.to_owned(),
    };
    let job = world.client.jobs.clone().get_job(request).await?.into_inner().job;
    let job = job.context("a job without a body")?;
    let all_done = job
        .steps
        .iter()
        .all(|step| step.state == i32::from(StepState::Succeeded) && step.percent == 100.0);
    ensure(all_done && job.percent == 100.0, || format!("{job:#?}"))?;
    let kinds: BTreeSet<_> = job.steps.iter().map(|step| words::step_kind(step.kind)).collect();
    let wanted = ["VALIDATING", "EXECUTING", "COMMAND", "TASK", "FINALIZING"].map(str::to_owned);
    ensure(kinds == BTreeSet::from(wanted), || {
        format!("steps of the kinds {kinds:?}")
    })?;
    let ids: BTreeSet<_> = job.steps.iter().map(|step| &step.step_id).collect();
    let rooted = job
        .steps
        .iter()
        .all(|step| step.parent_step_id.is_empty() || ids.contains(&step.parent_step_id));
    ensure(rooted && ids.len() == job.steps.len(), || {
        format!("no tree: {:#?}", job.steps)
    })
}

async fn events_tell_of(world: &World, root: &str) -> TestResult<()> {
    let request = ListEventsRequest {
        filter: Some(list_events_request::Filter {
            root_command_id: root.to_owned(),
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
    ensure(codes.contains(&"VM_REMOVED"), || {
        format!("the events are {codes:?}")
    })
}

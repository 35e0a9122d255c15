//! A copy has the content of its source, in any format, and the source is untouched.

use proto::engine::v1::*;
use tests::audit::all_is_well;
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests, storage, words};

#[tokio::test]
async fn a_disk_is_copied_into_every_form_within_its_domain_and_to_another() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let other = world.create_domain("second").await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let source = requests::create_disk(&domain, requests::KINDS[0]);
    let created = world.client.ask_create_disk(&source).await?;
    world.succeeds(&created).await?;
    let mut copies = Vec::new();
    for target in [&domain, &other] {
        for kind in requests::KINDS {
            let copy = requests::copy_disk(&source.disk_id, target, kind);
            copies.push((world.client.ask_copy_disk(&copy).await?, copy));
        }
    }
    for (command, _) in &copies {
        world.succeeds(command).await?;
    }
    let records = all_is_well(&world.view(), &watchers).await?;
    for (command, copy) in &copies {
        let disk = records.disks.iter().find(|disk| disk.disk_id == copy.disk_id);
        let disk = disk.context("a copy is missing")?;
        let same = (disk.capacity_bytes, disk.format, disk.allocation)
            == (source.capacity_bytes, copy.format, copy.allocation);
        ensure(same && disk.domain_id == copy.domain_id, || {
            format!("asked for {copy:?}, and it is {disk:?}")
        })?;
        let request = GetJobRequest {
            job_id: command.clone(),
        };
        let job = world.client.jobs.clone().get_job(request).await?.into_inner().job;
        ensure(job.is_some_and(|job| job.percent == 100.0), || {
            "a job that is done is not whole".to_owned()
        })?;
    }
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.len() == 5, || format!("{images:?}"))
}

#[tokio::test]
async fn a_disk_of_a_vm_is_copied_and_the_vm_stays_while_it_is() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    // While the host is away, the copy lasts as long as this test wants.
    world.kill_host().await?;
    world.host_is(host::Connection::Away).await?;
    let copy = requests::copy_disk(&vm.disks[0].disk_id, &domain, requests::KINDS[2]);
    let copied = world.client.ask_copy_disk(&copy).await?;
    let refused = world
        .client
        .vms
        .clone()
        .remove_vm(requests::remove_vm(&vm.vm_id))
        .await;
    let refusal = Refusal::from(&refused.err().context("it was accepted")?);
    ensure(
        refusal.reason == "ENTITY_BUSY" && refusal.fault.message.contains(&copied),
        || format!("{refusal:?}"),
    )?;
    world.restart_host().await?;
    world.succeeds(&copied).await?;
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.succeeds(&removed).await?;
    let records = all_is_well(&world.view(), &watchers).await?;
    let left: Vec<_> = records.disks.iter().map(|disk| &disk.disk_id).collect();
    ensure(left == [&copy.disk_id], || format!("{left:?}"))
}

#[tokio::test]
async fn whoever_wins_the_race_against_a_copy_the_end_is_one_of_two() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let source = requests::create_disk(&domain, requests::KINDS[0]);
    let created = world.client.ask_create_disk(&source).await?;
    world.succeeds(&created).await?;
    for round in 0..6 {
        let copy = requests::copy_disk(&source.disk_id, &domain, requests::KINDS[2]);
        let copied = world.client.ask_copy_disk(&copy).await?;
        // Each round cancels later.
        let told = |record: &tests::watch::Record<AsyncTask>| {
            let edges = record.items().filter(|task| task.root_command_id == copied);
            (edges.count() >= round).then_some(())
        };
        watchers.engine.tasks.until("enough edges", told).await?;
        let asked = world.client.cancel(&copied).await;
        let command = world.settled(&copied).await?;
        let state = words::command_state(command.state);
        match asked {
            Err(status) => {
                let refusal = Refusal::from(&status);
                ensure(refusal.reason == "COMMAND_ENDED" && state == "SUCCEEDED", || {
                    format!("{refusal:?} {state}")
                })?;
            }
            Ok(_) => ensure(
                command.cancel_requested && (state == "SUCCEEDED" || state == "CANCELLED"),
                || format!("{command:#?}"),
            )?,
        }
        let records = all_is_well(&world.view(), &watchers).await?;
        let exists = records.disks.iter().any(|disk| disk.disk_id == copy.disk_id);
        ensure(exists == (state == "SUCCEEDED"), || {
            format!("{state}, and the copy exists: {exists}")
        })?;
    }
    Ok(())
}

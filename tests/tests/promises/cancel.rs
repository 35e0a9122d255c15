//! Cancelling reaches everything below the command, undoes it, and says how it ended.

use proto::engine::v1::{CommandState, host::Connection};
use tests::audit::{self, all_is_well};
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests, storage, words};

#[tokio::test]
async fn a_creation_that_is_cancelled_while_its_host_is_away_changes_nothing() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.client.cancel(&created).await?;
    // Cancelling twice is harmless.
    world.client.cancel(&created).await?;
    world.restart_host().await?;
    let command = world.settled(&created).await?;
    ensure(
        command.state == i32::from(CommandState::Cancelled)
            && command.cancel_requested
            && command.left_behind.is_empty(),
        || format!("{command:#?}"),
    )?;
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.vms.is_empty() && records.disks.is_empty(), || {
        "a cancelled creation left a record".to_owned()
    })?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.is_empty(), || format!("images are left: {images:?}"))?;
    let again = Refusal::from(
        &world
            .client
            .cancel(&created)
            .await
            .err()
            .context("it has ended")?,
    );
    ensure(again.reason == "COMMAND_ENDED", || format!("{again:?}"))
}

#[tokio::test]
async fn whoever_wins_the_race_against_a_creation_the_end_is_one_of_two() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    for round in 0..8 {
        let vm = requests::create_vm(&format!("web-{round}"), requests::four_disks(&domain));
        let created = world.create_vm(&vm).await?;
        // Each round cancels later: it waits until this many tasks were announced.
        let told = |record: &tests::watch::Record<proto::engine::v1::AsyncTask>| {
            let edges = record
                .items()
                .filter(|task| task.root_command_id == created)
                .count();
            (edges >= round * 3).then_some(())
        };
        watchers.engine.tasks.until("enough edges", told).await?;
        let asked = world.client.cancel(&created).await;
        let command = world.settled(&created).await?;
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
        let exists = records.vms.iter().any(|known| known.vm_id == vm.vm_id);
        ensure(exists == (state == "SUCCEEDED"), || {
            format!("{state}, and the VM exists: {exists}")
        })?;
    }
    Ok(())
}

#[tokio::test]
async fn only_the_root_of_a_tree_can_be_cancelled() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    let command = world.settled(&created).await?;
    let child = command.child_command_ids.first().context("no children")?;
    // Once while the command lives, and once when only the store has it.
    for _ in 0..2 {
        let refusal = world
            .client
            .cancel(child)
            .await
            .err()
            .context("a child was cancelled")?;
        let refusal = Refusal::from(&refusal);
        ensure(refusal.reason == "COMMAND_NOT_ROOT", || format!("{refusal:?}"))?;
        audit::at_rest(&world.view()).await?;
    }
    Ok(())
}

//! The host's data directory is wiped during a command: then storage decides what became of the host's work, or
//! nothing does until somebody retries the command.

use proto::engine::v1::{Command, CommandState, host::Connection, waiting_for::What};
use tests::audit::{Records, assert_agreement, assert_no_locks, at_rest};
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests, storage, words};

/// Points of a removal at which the host loses its memory: nothing done, half done, done but not reported.
const OF_A_REMOVAL: [&str; 4] = [
    "delete_image.note_intent.before",
    "delete_image.set_aside.after",
    "delete_image.unlink_data.after",
    "delete_image.note_done.before",
];

/// The same for a creation.
const OF_A_CREATION: [&str; 4] = [
    "create_volume.note_intent.before",
    "create_volume.make_image.after",
    "create_volume.place_file.after",
    "create_volume.write_meta.after",
];

/// Points at which the host's leftovers are neither the one nor the other, so that only an operator can decide.
const UNCLEAR: [&str; 3] = [
    "delete_image.set_aside.after",
    "delete_image.unlink_data.after",
    "create_volume.place_file.after",
];

/// Lets the host die at this point of the command, wipes its memory, and waits for the command's end. If storage does
/// not tell, the command rests and keeps its locks until somebody retries it.
async fn wiped_at(world: &mut World, point: &str, command_id: &str) -> TestResult<Command> {
    world.host.killed_itself().await?;
    std::fs::remove_dir_all(&world.host.recipe().data_dir)?;
    world.restart_host().await?;
    world.host_is(Connection::Connected).await?;
    let settled = world.client.settled(command_id).await?;
    if UNCLEAR.contains(&point) {
        let attention = match settled
            .waiting_for
            .as_ref()
            .and_then(|waiting| waiting.what.as_ref())
        {
            Some(What::Attention(fault)) => fault.code.as_str(),
            _ => "",
        };
        let rests = settled.state == i32::from(CommandState::NeedsAttention);
        ensure(rests && attention == "EVIDENCE_MISSING", || {
            format!("{point}: {settled:#?}")
        })?;
        ensure(!Records::read(&world.view()).await?.holders().is_empty(), || {
            format!("{point}: no locks")
        })?;
    }
    let command = world.client.ended(command_id).await?;
    let (first, last) = (
        words::command_state(settled.state),
        words::command_state(command.state),
    );
    eprintln!("{point}: {first}, then {last}");
    Ok(command)
}

/// A host that will die at this point, the first time that it passes the point.
async fn doomed(world: &mut World, point: &str) -> TestResult<()> {
    world.host.stop().await?;
    let boundary = Boundary {
        point: point.to_owned(),
        hit: 1,
    };
    world.host.start(&FailPoints::killing(&boundary)).await?;
    world.host_serves().await?;
    world.host_is(Connection::Connected).await
}

/// Checks everything; only the host's watch starts anew after the wipe.
async fn honest(world: &World, watchers: &Watchers, command: &Command) -> TestResult<Records> {
    let records = at_rest(&world.view()).await?;
    assert_no_locks(&records)?;
    assert_agreement(&world.view(), &records, watchers).await?;
    let failed_without_a_reason = command.state == i32::from(CommandState::Failed) && command.fault.is_none();
    ensure(!failed_without_a_reason, || format!("{command:#?}"))?;
    Ok(records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_whose_host_lost_its_memory_ends_by_what_storage_shows() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    for point in OF_A_REMOVAL {
        let vm = requests::create_vm(&format!("of {point}"), requests::four_disks(&domain));
        let created = world.create_vm(&vm).await?;
        world.succeeds(&created).await?;
        doomed(&mut world, point).await?;
        let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
        let mut command = wiped_at(&mut world, point, &removed).await?;
        let mut records = honest(&world, &watchers, &command).await?;
        if command.state == i32::from(CommandState::Failed) {
            // Then it can simply be requested again.
            let again = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
            command = world.client.ended(&again).await?;
            records = honest(&world, &watchers, &command).await?;
        }
        ensure(command.state == i32::from(CommandState::Succeeded), || {
            format!("{point}: {command:#?}")
        })?;
        let images = storage::images(&world.storage_root(), &domain);
        ensure(records.vms.is_empty() && images.is_empty(), || {
            format!("{point}: {images:?}")
        })?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_host_lost_its_memory_ends_by_what_storage_shows() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    for point in OF_A_CREATION {
        doomed(&mut world, point).await?;
        let vm = requests::create_vm(&format!("of {point}"), requests::four_disks(&domain));
        let created = world.create_vm(&vm).await?;
        let command = wiped_at(&mut world, point, &created).await?;
        let records = honest(&world, &watchers, &command).await?;
        let succeeded = command.state == i32::from(CommandState::Succeeded);
        let exists = records.vms.iter().any(|known| known.vm_id == vm.vm_id);
        ensure(exists == succeeded, || {
            format!("{point}: the VM exists: {exists}: {command:#?}")
        })?;
        // A record names everything that is left, so it can be removed.
        for vm in &records.vms {
            let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
            world.succeeds(&removed).await?;
        }
    }
    Ok(())
}

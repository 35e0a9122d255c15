//! An engine whose host has a full disk.

use std::future::ready;
use std::time::Duration;

use proto::engine::v1::host::Connection;
use tests::audit::all_is_well;
use tests::failure::{TestResult, ensure};
use tests::loop_mount::FileSystem;
use tests::patience::eventually;
use tests::watch::Watchers;
use tests::{World, requests};

use super::small_disk;

/// Enough time for a few attempts of the engine.
const LONGER: Duration = Duration::from_secs(3);

/// Commands that write more than the room that a host's database still has when its disk is full.
const ENOUGH: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn commands_wait_for_a_host_whose_disk_is_full_and_end_when_it_has_room() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    world.host.stop().await?;
    let Some(disk) = small_disk(&mut world.host, FileSystem::Ext4)? else {
        return Ok(());
    };
    world.restart_host().await?;
    world.host_is(Connection::Connected).await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    disk.fill()?;
    let mut commands = Vec::new();
    while !is_full(&world) {
        ensure(commands.len() < ENOUGH, || {
            "its disk is full, and it does not say so".to_owned()
        })?;
        let vm = requests::create_vm(&format!("vm-{}", commands.len()), requests::four_disks(&domain));
        let command = world.create_vm(&vm).await?;
        // No faster than the host works, so that waiting requests do not fill the disk.
        tokio::select! {
            ended = world.client.settled(&command) => drop(ended?),
            full = eventually("a full disk", || ready(is_full(&world).then_some(()))) => full?,
        }
        commands.push(command);
    }
    // This request comes when there is no room for it.
    let vm = requests::create_vm("last", requests::four_disks(&domain));
    let last = world.create_vm(&vm).await?;
    let waits = world.client.settled(&last);
    ensure(tokio::time::timeout(LONGER, waits).await.is_err(), || {
        "it has ended without any room on its host".to_owned()
    })?;
    disk.make_room()?;
    for command_id in commands.iter().chain([&last]) {
        world.succeeds(command_id).await?;
    }
    all_is_well(&world.view(), &watchers).await?;
    world.stop().await
}

fn is_full(world: &World) -> bool {
    world.host.log_tail(1_000).contains("is full")
}

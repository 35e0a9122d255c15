//! An undo is never stopped: a cancellation that comes then is recorded, and changes nothing.

use tests::audit;
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{TestResult, ensure};
use tests::gate::{Gate, STRANGER};
use tests::patience::eventually;
use tests::watch::Watchers;
use tests::{World, requests, storage, words};

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_fails_and_is_cancelled_in_its_undo_fails_as_it_would_have() -> TestResult<()> {
    let gate = Gate::open().await?;
    let host = ["--qemu-img", &gate.program()];
    let mut world = World::start_as(&host, &["--heartbeat-ms", "500"]).await?;
    let domain = world.furnish().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let broken = &vm.disks[3].disk_id;
    let images = world.storage_root().join(&domain).join("images");
    let in_the_way = images.join(broken);
    gate.breaks(images, broken)?;
    // The undo deletes what was made; the host dies there.
    let boundary = Boundary {
        point: "delete_image.set_aside.before".to_owned(),
        hit: 1,
    };
    world.host.stop().await?;
    let dies = FailPoints {
        kill: Some(boundary),
        ..FailPoints::default()
    };
    world.host.start(&dies).await?;
    world.host_serves().await?;
    let created = world.create_vm(&vm).await?;
    world.host.killed_itself().await?;
    let before = eventually("the command to be undone", || async {
        let command = world.client.command(&created).await.ok()?;
        (words::command_state(command.state) == "COMPENSATING").then_some(command)
    })
    .await?;
    ensure(!before.cancelable && before.undo.is_empty(), || {
        format!("{before:#?}")
    })?;
    for _ in 0..2 {
        let command = world.client.ask_cancel(&created).await?;
        let goes_on = words::command_state(command.state) == "COMPENSATING" && command.cancel_requested;
        ensure(goes_on && !command.cancelable, || format!("{command:#?}"))?;
        world.kill_engine().await?;
        world.restart_engine().await?;
    }
    world.restart_host().await?;
    let command = world.settled(&created).await?;
    let fault = command.fault.as_ref().map(|fault| fault.code.as_str());
    let fails = words::command_state(command.state) == "FAILED" && fault == Some("CHILD_FAILED");
    ensure(
        fails && command.cancel_requested && command.left_behind.is_empty(),
        || format!("{command:#?}"),
    )?;
    ensure(in_the_way.join(STRANGER.0).exists(), || {
        "what stood in the way was touched".to_owned()
    })?;
    std::fs::remove_dir_all(&in_the_way)?;
    let records = audit::all_is_well(&world.view(), &watchers).await?;
    let left = storage::images(&world.storage_root(), &domain);
    ensure(
        records.vms.is_empty() && records.disks.is_empty() && left.is_empty(),
        || format!("{:?} {:?} {left:?}", records.vms, records.disks),
    )
}

//! How tasks are started: side by side, and until there is a verdict.

use std::time::Duration;

use doubles::memory::Disk;
use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::vm_service_client::VmServiceClient;
use proto::engine::v1::waiting_for::What;
use proto::engine::v1::{CommandState, CreateVmRequest, DiskSpec, GetCommandRequest, WaitingFor};
use proto::task::v1::{Allocation, VolumeFormat};

use crate::double::Double;
use crate::world::{World, eventually, host_id};

const DISKS: usize = 64;

async fn create_vm(world: &World, domain_id: &str, disks: usize) -> String {
    let disk = DiskSpec {
        domain_id: domain_id.to_owned(),
        capacity_bytes: 4096,
        format: VolumeFormat::Raw.into(),
        allocation: Allocation::Sparse.into(),
        ..DiskSpec::default()
    };
    let request = CreateVmRequest {
        name: "vm1".into(),
        disks: vec![disk; disks],
        ..CreateVmRequest::default()
    };
    let mut vms = VmServiceClient::new(world.channel.clone());
    let accepted = vms.create_vm(request).await.unwrap().into_inner();
    accepted.command.unwrap().command_id
}

/// Drives every task of the host to its end.
async fn finish_all(double: &Double) {
    let ids: Vec<_> = {
        let truth = double.truth();
        truth
            .history
            .iter()
            .filter(|task| task.sequence == 1)
            .map(|task| task.task_id.clone())
            .collect()
    };
    for id in ids {
        for _ in 1..5 {
            double.advance(id.parse().unwrap());
        }
    }
}

#[tokio::test]
async fn many_tasks_are_started_side_by_side() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let domain = world.domain().await;
    double.truth().slowness = Duration::from_millis(200);
    let command = create_vm(&world, &domain, DISKS).await;
    eventually("all are started", || async {
        (double.truth().history.len() >= DISKS).then_some(())
    })
    .await;
    let most = double.truth().starting.1;
    assert!(most > DISKS / 2, "{most} at most side by side");
    finish_all(&double).await;
    assert_eq!(world.wait(&command).await.state(), CommandState::Succeeded);
    world.stop().await;
}

#[tokio::test]
async fn a_status_that_says_nothing_is_no_verdict() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let domain = world.domain().await;
    double.truth().unclear_starts = 3;
    let command = create_vm(&world, &domain, 1).await;
    eventually("it is started", || async {
        (!double.truth().history.is_empty()).then_some(())
    })
    .await;
    finish_all(&double).await;
    assert_eq!(world.wait(&command).await.state(), CommandState::Succeeded);
    world.stop().await;
}

async fn waiting_for(world: &World, command_id: &str) -> Option<WaitingFor> {
    let mut commands = CommandServiceClient::new(world.channel.clone());
    let command_id = command_id.to_owned();
    let got = commands.get_command(GetCommandRequest { command_id }).await;
    got.unwrap().into_inner().command?.waiting_for
}

#[tokio::test]
async fn a_full_host_is_seen_and_asked_again_when_a_task_of_it_ends() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let domain = world.domain().await;
    double.truth().limit = Some(1);
    let command = create_vm(&world, &domain, DISKS / 2).await;
    let waiting = eventually("the full host to be named", || async {
        waiting_for(&world, &command)
            .await
            .filter(|waiting| waiting.note.contains("QUEUE_FULL"))
    })
    .await;
    assert_eq!(
        waiting.what,
        Some(What::HostId(host_id().to_string())),
        "{waiting:?}"
    );
    assert!(waiting.note.starts_with("room on host"), "{waiting:?}");
    // With rests between them that double up to seconds, so many one after the other would take minutes.
    let mut ended = 0;
    while ended < DISKS / 2 {
        eventually("the next one to be started", || async {
            (double.truth().open() == 1).then_some(())
        })
        .await;
        finish_open(&double);
        ended += 1;
    }
    assert_eq!(world.wait(&command).await.state(), CommandState::Succeeded);
    world.stop().await;
}

/// Drives the tasks that are not over to their ends.
fn finish_open(double: &Double) {
    let newest = double
        .truth()
        .history
        .iter()
        .rfind(|task| task.sequence == 1)
        .cloned();
    let task_id = newest.unwrap().task_id.parse().unwrap();
    for _ in 1..5 {
        double.advance(task_id);
    }
}

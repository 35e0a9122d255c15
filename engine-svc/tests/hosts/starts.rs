//! How tasks are started: side by side, and until there is a verdict.

use std::time::Duration;

use proto::engine::v1::vm_service_client::VmServiceClient;
use proto::engine::v1::{CommandState, CreateVmRequest, DiskSpec};
use proto::task::v1::{Allocation, VolumeFormat};
use runtime::store::memory::Disk;

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

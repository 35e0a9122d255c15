//! Whose host it is, and which one.

use std::time::Duration;

use common::id::{EngineId, HostId, Incarnation};
use doubles::memory::Disk;
use proto::engine::v1::disk_service_client::DiskServiceClient;
use proto::engine::v1::host::Connection;
use proto::engine::v1::storage_domain_service_client::StorageDomainServiceClient;
use proto::engine::v1::{CommandState, CreateDiskRequest, CreateStorageDomainRequest};
use proto::host::v1::Life;
use proto::task::v1::{Allocation, TaskState, VolumeFormat};
use uuid::Uuid;

use crate::double::{Asked, Double};
use crate::world::{World, eventually, host_id};

#[tokio::test]
async fn a_host_of_another_id_is_not_taken() {
    let (double, address) = Double::start(HostId::from_uuid(Uuid::from_u128(0x999)));
    let world = World::start(&Disk::new()).await;
    let command = world.add(address).await;
    assert_eq!(command.state(), CommandState::Failed);
    assert_eq!(command.fault.unwrap().code, "HOST_ID_MISMATCH");
    assert_eq!(double.truth().owner, None);
    world.stop().await;
}

#[tokio::test]
async fn a_host_of_another_engine_is_not_taken() {
    let (double, address) = Double::start(host_id());
    let owner = EngineId::from_uuid(Uuid::from_u128(0x777));
    double.truth().owner = Some(owner);
    let world = World::start(&Disk::new()).await;
    let command = world.add(address).await;
    assert_eq!(command.state(), CommandState::Failed);
    assert_eq!(command.fault.unwrap().code, "HOST_OWNED");
    assert_eq!(double.truth().owner, Some(owner));
    world.stop().await;
}

#[tokio::test]
async fn a_host_that_comes_back_as_another_is_refused_until_it_is_itself_again() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    double.truth().host_id = HostId::from_uuid(Uuid::from_u128(0x999));
    double.cut_streams();
    let host = world.linked(Connection::Refused).await;
    assert_eq!(host.connection_fault.unwrap().code, "HOST_ID_MISMATCH");
    double.truth().host_id = host_id();
    world.linked(Connection::Connected).await;
    world.stop().await;
}

#[tokio::test]
async fn a_host_whose_release_is_under_way_when_it_is_cancelled_is_claimed_after_it() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let owner = double.truth().owner;
    double.truth().holds = Some(Asked::Release);
    let command_id = world.remove().await;
    cancelled_while_held(&world, &double, &command_id).await;
    assert_eq!(double.truth().asked, [Asked::Claim, Asked::Release, Asked::Claim]);
    assert_eq!(double.truth().owner, owner);
    world.stop().await;
}

#[tokio::test]
async fn a_host_whose_claim_is_under_way_when_it_is_cancelled_is_released_after_it() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    double.truth().holds = Some(Asked::Claim);
    let command_id = world.begin_to_add(address).await;
    cancelled_while_held(&world, &double, &command_id).await;
    assert_eq!(double.truth().asked, [Asked::Claim, Asked::Release]);
    assert_eq!(double.truth().owner, None);
    world.stop().await;
}

/// The undo waits for what it undoes: it is not lost, and does not overtake.
async fn cancelled_while_held(world: &World, double: &Double, command_id: &str) {
    let held = double.truth().holds;
    eventually("the host is asked", || async {
        (double.truth().asked.last().copied() == held).then_some(())
    })
    .await;
    world.cancel(command_id).await;
    // That nothing overtakes has no sign to wait for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(double.truth().asked.last().copied(), held);
    double.truth().holds = None;
    let command = world.wait(command_id).await;
    assert_eq!(command.state(), CommandState::Cancelled, "{command:#?}");
}

/// One host's word: it may lie, and it may be right. Either way it costs what goes on with this host, and no more.
#[tokio::test]
async fn a_host_that_says_it_is_another_lifes_is_left_alone_and_ends_nothing_else() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let domain_id = world.domain().await;
    let (epoch, incarnation) = {
        let mut truth = double.truth();
        let before = (truth.epoch, truth.incarnation);
        truth.epoch = u64::MAX;
        truth.incarnation = Some(Incarnation::from_uuid(Uuid::from_u128(0x888)));
        before
    };
    double.cut_streams();
    let host = world.linked(Connection::Refused).await;
    assert_eq!(host.connection_fault.unwrap().code, "ENGINE_FENCED");

    let refused = world.ask_for_a_disk(&domain_id).await.unwrap_err();
    let (fault, _) = runtime::status::fault_of(&refused).unwrap();
    assert_eq!(fault.code_text(), "ENGINE_FENCED");
    assert!(fault.message.contains("TakeOverHost"), "{fault}");

    {
        let mut truth = double.truth();
        truth.epoch = epoch;
        truth.incarnation = incarnation;
    }
    world.linked(Connection::Connected).await;
    world.ask_for_a_disk(&domain_id).await.unwrap();
    assert!(!world.running.is_finished());
    world.stop().await;
}

/// What it has of the engine is the engine's own words, and it can make none.
#[tokio::test]
async fn a_host_that_repeats_or_makes_up_what_lives_say_is_heard_for_none() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let domain_id = world.domain().await;
    for round in 1..4 {
        while double.truth().met.len() < 2 * round {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut truth = double.truth();
        let said = truth.met.last().cloned().unwrap();
        let made_up = Life {
            incarnation: Uuid::from_u128(0x888).to_string(),
            heard: vec![said.nonce.clone()],
            ..said.clone()
        };
        truth.lives = vec![said, made_up, Life::default()];
    }
    world.ask_for_a_disk(&domain_id).await.unwrap();
    world.linked(Connection::Connected).await;
    world.stop().await;
}

#[tokio::test]
async fn a_host_of_another_engine_or_of_another_life_of_this_one_is_had_by_a_take_over() {
    let (double, address) = Double::start(host_id());
    double.truth().owner = Some(EngineId::from_uuid(Uuid::from_u128(0x777)));
    let world = World::start(&Disk::new()).await;
    let command = world.take_over(Some(address)).await;
    assert_eq!(command.state(), CommandState::Succeeded, "{command:#?}");
    world.linked(Connection::Connected).await;
    assert_eq!(double.truth().taken_over.as_ref().unwrap().reason, "burnt down");

    double.truth().taken_over = None;
    double.truth().incarnation = Some(Incarnation::from_uuid(Uuid::from_u128(0x888)));
    double.cut_streams();
    world.linked(Connection::Refused).await;
    let command = world.take_over(None).await;
    assert_eq!(command.state(), CommandState::Succeeded, "{command:#?}");
    world.linked(Connection::Connected).await;
    assert_eq!(double.truth().taken_over.as_ref().unwrap().user, "127.0.0.1");
    world.stop().await;
}

#[tokio::test]
async fn the_next_start_of_an_engine_claims_its_host_before_it_sends_anything() {
    let (double, address) = Double::start(host_id());
    let disk = Disk::new();
    let world = World::start(&disk).await;
    world.follow(address).await;
    let first = claimed(&double);
    world.stop().await;
    let world = World::start(&disk).await;
    world.linked(Connection::Connected).await;
    let second = claimed(&double);
    assert!(second.0 > first.0 && second.1 != first.1, "{first:?} {second:?}");
    assert_eq!(double.truth().asked, [Asked::Claim, Asked::Claim]);
    world.stop().await;
}

fn claimed(double: &Double) -> (u64, Option<Incarnation>) {
    let truth = double.truth();
    (truth.epoch, truth.incarnation)
}

#[tokio::test]
async fn what_a_command_asks_of_its_host_carries_its_correlation_id() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let mut domains = StorageDomainServiceClient::new(world.channel.clone());
    let mut request = tonic::Request::new(CreateStorageDomainRequest {
        name: "d1".into(),
        host_id: host_id().to_string(),
        ..CreateStorageDomainRequest::default()
    });
    request
        .metadata_mut()
        .insert("x-correlation-id", "c-9".parse().unwrap());
    let accepted = domains.create_storage_domain(request).await.unwrap().into_inner();
    world.wait(&accepted.command.unwrap().command_id).await;
    assert_eq!(double.truth().correlated, [Some("c-9".to_owned())]);
    world.stop().await;
}

#[tokio::test]
async fn whatever_is_asked_about_a_task_carries_the_correlation_id_of_its_command() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    double.truth().stoppable = Some("remove the new volume".to_owned());
    let request = CreateDiskRequest {
        domain_id: world.domain().await,
        capacity_bytes: 4096,
        format: VolumeFormat::Raw.into(),
        allocation: Allocation::Sparse.into(),
        ..CreateDiskRequest::default()
    };
    let mut request = tonic::Request::new(request);
    request
        .metadata_mut()
        .insert("x-correlation-id", "c-9".parse().unwrap());
    let mut disks = DiskServiceClient::new(world.channel.clone());
    let accepted = disks.create_disk(request).await.unwrap().into_inner();
    let command_id = accepted.command.unwrap().command_id;
    let task_id = eventually("the host to hear of the task", || async {
        double.truth().history.last().map(|task| task.task_id.clone())
    });
    let task_id = task_id.await.parse().unwrap();
    for _ in 0..3 {
        double.advance(task_id);
    }
    let told = |what: &'static str| {
        let truth = double.truth();
        let mut told = truth.told.iter().filter(|(call, _)| *call == what);
        told.next().map(|(_, correlation_id)| correlation_id.clone())
    };
    world.cancel(&command_id).await;
    let stopped = eventually("the host to be told to stop", || async { told("abort") });
    assert_eq!(stopped.await.as_deref(), Some("c-9"));
    // It does not stop, and comes to its end.
    while double.advance(task_id).state != i32::from(TaskState::Finished) {}
    let cleared = eventually("the host to be told that it may forget", || async {
        told("clear")
    });
    assert_eq!(cleared.await.as_deref(), Some("c-9"));
    assert_eq!(told("start").flatten().as_deref(), Some("c-9"));
    world.stop().await;
}

//! The engine's data directory.

use std::future::ready;

use proto::engine::v1::{CreateVmRequest, GetVmRequest, host::Connection};
use tests::audit::all_is_well;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::loop_mount::FileSystem;
use tests::patience::{eventually, persist};
use tests::watch::{EngineWatchers, Watchers};
use tests::{World, requests};

use super::{Said, says_what_it_lacks, small_disk};

/// More requests than fit into the room that the database still has when the disk is full, and fewer than a page.
const MOST: usize = 800;

/// So long that each VM takes blocks on disk.
const DESCRIPTION: usize = 4_000;

/// The requests that were made while the disk was full, and their answers.
#[derive(Default)]
struct Asked {
    accepted: Vec<CreateVmRequest>,
    unknown: Vec<CreateVmRequest>,
    refused: Vec<CreateVmRequest>,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_disk_is_full_keeps_its_word_and_goes_on_by_itself() -> TestResult<()> {
    on(FileSystem::Ext4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_disk_is_full_keeps_its_word_on_xfs_too() -> TestResult<()> {
    on(FileSystem::Xfs).await
}

async fn on(kind: FileSystem) -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    world.engine.stop().await?;
    let Some(disk) = small_disk(&mut world.engine, kind)? else {
        return Ok(());
    };
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    let watchers = Watchers::start(&world.client, &world.host_client);

    // The host is away, so its work is still to be done when the disk is full.
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let vm = requests::create_vm("under way", requests::four_disks(&domain));
    let under_way = world.create_vm(&vm).await?;
    disk.fill()?;
    let asked = ask_until_refused(&world).await?;
    eprintln!(
        "{} accepted, {} of which nothing is known, then refused",
        asked.accepted.len(),
        asked.unknown.len()
    );
    reads_and_watches_go_on(&world, &asked).await?;
    ensure(world.create_vm(&vm).await? == under_way, || {
        "a repeat is another command".to_owned()
    })?;

    // Accepted commands end, with the room that was held back for them.
    world.restart_host().await?;
    world.succeeds(&under_way).await?;
    ensure(
        create(&world, &asked.refused[0]).await? == Some(Said::Full),
        || "there is no room yet, and it was accepted".to_owned(),
    )?;

    world.kill_engine().await?;
    world.restart_engine().await?;
    reads_and_watches_go_on(&world, &asked).await?;
    ensure(
        create(&world, &asked.refused[0]).await? == Some(Said::Full),
        || "there is no room yet, and it was accepted".to_owned(),
    )?;

    let process = world.engine.pid();
    disk.make_room()?;
    for request in asked.refused.iter().chain(&asked.unknown).chain(&asked.accepted) {
        // With the same `request_id`: whatever became of the request before, it is there once.
        let command_id = world.create_vm(request).await?;
        world.succeeds(&command_id).await?;
    }
    ensure(!world.engine.has_ended() && world.engine.pid() == process, || {
        "it did not go on by itself".to_owned()
    })?;
    let records = all_is_well(&world.view(), &watchers).await?;
    let wanted = 1 + asked.refused.len() + asked.unknown.len() + asked.accepted.len();
    ensure(records.vms.len() == wanted, || {
        format!("{} VMs, and {wanted} were asked for", records.vms.len())
    })?;

    start_without_any_room(&mut world, &disk).await?;
    all_is_well(&world.view(), &watchers).await?;
    world.stop().await
}

/// The disk has no room left, not even the room held back: the engine starts, or says why it does not, and it starts
/// when there is room.
async fn start_without_any_room(world: &mut World, disk: &tests::small_disk::SmallDisk) -> TestResult<()> {
    world.kill_engine().await?;
    std::fs::remove_file(world.engine.recipe().data_dir.join("reserve")).context("the reserve")?;
    disk.fill()?;
    world.engine.spawn(&FailPoints::default())?;
    if world.engine.bound().await?.is_none() {
        says_what_it_lacks(&world.engine)?;
    }
    world.kill_engine().await?;
    disk.make_room()?;
    world.restart_engine().await
}

async fn create(world: &World, request: &CreateVmRequest) -> TestResult<Option<Said>> {
    match world.client.vms.clone().create_vm(request.clone()).await {
        Ok(_) => Ok(None),
        Err(status) => Said::of(&status).map(Some),
    }
}

async fn ask_until_refused(world: &World) -> TestResult<Asked> {
    let mut asked = Asked::default();
    for n in 0..MOST {
        let mut request = requests::create_vm(&format!("small-{n}"), Vec::new());
        request.description = "x".repeat(DESCRIPTION);
        match create(world, &request).await? {
            None => asked.accepted.push(request),
            Some(Said::Unknown) => asked.unknown.push(request),
            Some(Said::Full) => {
                asked.refused.push(request);
                return Ok(asked);
            }
        }
    }
    Err(Failure::new("the disk is full, and everything is accepted"))
}

async fn reads_and_watches_go_on(world: &World, asked: &Asked) -> TestResult<()> {
    for (requests, exist) in [(&asked.accepted, true), (&asked.refused, false)] {
        for request in requests {
            let answer = persist(|| {
                let (mut vms, vm_id) = (world.client.vms.clone(), request.vm_id.clone());
                async move { vms.get_vm(GetVmRequest { vm_id }).await }
            });
            let answer = answer.await;
            ensure(answer.is_ok() == exist, || {
                format!("{}: {answer:?}", request.name)
            })?;
        }
    }
    let mut planned = asked.refused[0].clone();
    planned.validate_only = true;
    ensure(create(world, &planned).await?.is_none(), || {
        "what changes nothing needs no room".to_owned()
    })?;
    let late = EngineWatchers::start(&world.client);
    eventually("a watch that begins now to be served", || {
        let told = late.commands.record().token().is_some() && late.events.record().token().is_some();
        ready(told.then_some(()))
    })
    .await?;
    let found = late.violations();
    ensure(found.is_empty(), || found.join("\n"))
}

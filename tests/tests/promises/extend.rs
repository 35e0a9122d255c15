//! A disk grows completely or not at all, and GetDisk and storage always agree about its size.

use std::os::unix::fs::FileExt as _;

use proto::engine::v1::*;
use tests::audit::all_is_well;
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::gate::Gate;
use tests::watch::Watchers;
use tests::{World, requests, words};

const OLD: i64 = requests::DISK_BYTES;
const NEW: i64 = 5 * requests::DISK_BYTES;

async fn disk_of(world: &World, disk_id: &str) -> TestResult<Disk> {
    let disk_id = disk_id.to_owned();
    let answer = world
        .client
        .disks
        .clone()
        .get_disk(GetDiskRequest { disk_id })
        .await?;
    answer.into_inner().disk.context("a disk without a body")
}

async fn job_of(world: &World, job_id: &str) -> TestResult<Job> {
    let job_id = job_id.to_owned();
    let answer = world
        .client
        .jobs
        .clone()
        .get_job(GetJobRequest { job_id })
        .await?;
    answer.into_inner().job.context("a job without a body")
}

#[tokio::test]
async fn a_disk_of_any_form_grows_attached_or_not_and_keeps_what_it_holds() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let mut own = requests::create_disk(&domain, requests::KINDS[0]);
    own.description = "web data".to_owned();
    for command in [
        world.create_vm(&vm).await?,
        world.client.ask_create_disk(&own).await?,
    ] {
        world.succeeds(&command).await?;
    }
    let data = |disk: &Disk| {
        let image = world
            .storage_root()
            .join(&domain)
            .join("images")
            .join(&disk.disk_id);
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(image.join(&disk.volume_id))
    };
    let own = disk_of(&world, &own.disk_id).await?;
    data(&own)?.write_all_at(b"kept", 70_000)?;
    let attached = vm.disks.iter().map(|disk| disk.disk_id.clone());
    for disk_id in attached.chain([own.disk_id.clone()]) {
        let request = requests::extend_disk(&disk_id, NEW);
        let extended = world.client.ask_extend_disk(&request).await?;
        world.succeeds(&extended).await?;
        let again = world.client.ask_extend_disk(&request).await?;
        ensure(again == extended, || "a repeat became another command".to_owned())?;
        let disk = disk_of(&world, &disk_id).await?;
        ensure(disk.capacity_bytes == NEW, || format!("{disk:?}"))?;
    }
    let mut kept = [0; 4];
    data(&own)?.read_exact_at(&mut kept, 70_000)?;
    ensure(&kept == b"kept", || format!("{kept:?}"))?;
    let once_more = world
        .client
        .ask_extend_disk(&requests::extend_disk(&own.disk_id, 2 * NEW))
        .await?;
    world.succeeds(&once_more).await?;
    let job = job_of(&world, &once_more).await?;
    let words = "Extending disk \"web data\" from 5 MiB to 10 MiB on ";
    ensure(
        job.percent == 100.0 && job.total_bytes == 2 * NEW && job.description.starts_with(words),
        || format!("{job:#?}"),
    )?;
    // The size survives a restart of both services.
    world.kill_engine().await?;
    world.kill_host().await?;
    world.restart_host().await?;
    world.restart_engine().await?;
    let records = all_is_well(&world.view(), &watchers).await?;
    let mut sizes: Vec<_> = records.disks.iter().map(|disk| disk.capacity_bytes).collect();
    sizes.sort_unstable();
    ensure(sizes == [NEW, NEW, NEW, NEW, 2 * NEW], || format!("{sizes:?}"))?;
    // A copy now is as large as its source, and all of it goes with the VM.
    let copy = requests::copy_disk(&own.disk_id, &domain, requests::KINDS[2]);
    let copied = world.client.ask_copy_disk(&copy).await?;
    world.succeeds(&copied).await?;
    ensure(
        disk_of(&world, &copy.disk_id).await?.capacity_bytes == 2 * NEW,
        || "the copy has another size".to_owned(),
    )?;
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.succeeds(&removed).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn a_plan_says_what_would_be_done_and_nothing_is() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let disk = requests::create_disk(&domain, requests::KINDS[0]);
    let created = world.client.ask_create_disk(&disk).await?;
    world.succeeds(&created).await?;
    let mut request = requests::extend_disk(&disk.disk_id, NEW);
    request.validate_only = true;
    let answer = world
        .client
        .disks
        .clone()
        .extend_disk(request)
        .await?
        .into_inner();
    let plan = answer.command.context("no command")?.plan.unwrap_or_default();
    ensure(
        answer.token.is_empty() && plan.parts.is_empty() && plan.tasks.len() == 1,
        || format!("{plan:#?}"),
    )?;
    ensure(
        disk_of(&world, &disk.disk_id).await?.capacity_bytes == OLD,
        || "it has grown".to_owned(),
    )
}

/// More than is free on any disk of a machine that runs tests.
#[tokio::test]
async fn without_room_a_disk_keeps_its_size_and_is_free_again() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let disk = requests::create_disk(&domain, requests::KINDS[1]);
    let created = world.client.ask_create_disk(&disk).await?;
    world.succeeds(&created).await?;
    let extended = world
        .client
        .ask_extend_disk(&requests::extend_disk(&disk.disk_id, 8 << 40))
        .await?;
    let command = world.settled(&extended).await?;
    let fault = command.fault.clone().unwrap_or_default();
    ensure(
        command.state() == CommandState::Failed && fault.code == "NO_SPACE" && command.left_behind.is_empty(),
        || format!("{command:#?}"),
    )?;
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.disks[0].capacity_bytes == OLD, || {
        format!("{:?}", records.disks)
    })?;
    let extended = world
        .client
        .ask_extend_disk(&requests::extend_disk(&disk.disk_id, NEW))
        .await?;
    world.succeeds(&extended).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn stopped_before_its_host_has_begun_nothing_has_changed() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let disk = requests::create_disk(&domain, requests::KINDS[2]);
    let created = world.client.ask_create_disk(&disk).await?;
    world.succeeds(&created).await?;
    world.kill_host().await?;
    world.host_is(host::Connection::Away).await?;
    let extended = world
        .client
        .ask_extend_disk(&requests::extend_disk(&disk.disk_id, NEW))
        .await?;
    for refused in [
        requests::extend_disk(&disk.disk_id, 2 * NEW),
        requests::extend_disk(&disk.disk_id, OLD),
    ] {
        let answer = world.client.disks.clone().extend_disk(refused).await;
        let refusal = Refusal::from(&answer.err().context("it was accepted")?);
        ensure(
            refusal.reason == "ENTITY_BUSY" && refusal.fault.message.contains(&extended),
            || format!("{refusal:?}"),
        )?;
    }
    world.client.cancel(&extended).await?;
    world.kill_engine().await?;
    world.restart_engine().await?;
    world.restart_host().await?;
    let command = world.settled(&extended).await?;
    ensure(command.state() == CommandState::Cancelled, || {
        format!("{command:#?}")
    })?;
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.disks[0].capacity_bytes == OLD, || {
        format!("{:?}", records.disks)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_point_of_no_return_it_goes_on_whoever_asks_that_it_be_stopped() -> TestResult<()> {
    let gate = Gate::open().await?;
    let world = World::start_with(&["--qemu-img", &gate.program()]).await?;
    let domain = world.furnish().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let disk = requests::create_disk(&domain, requests::KINDS[2]);
    let created = world.client.ask_create_disk(&disk).await?;
    world.succeeds(&created).await?;
    gate.shut("resize")?;
    let extended = world
        .client
        .ask_extend_disk(&requests::extend_disk(&disk.disk_id, NEW))
        .await?;
    gate.reached().await?;
    ensure(
        disk_of(&world, &disk.disk_id).await?.capacity_bytes == OLD,
        || "the records are ahead of storage".to_owned(),
    )?;
    let command = world.client.cancel(&extended).await?;
    ensure(command.cancel_requested, || format!("{command:#?}"))?;
    gate.reopen()?;
    let command = world.settled(&extended).await?;
    let state = words::command_state(command.state);
    ensure(state == "SUCCEEDED" && command.cancel_requested, || {
        format!("{command:#?}")
    })?;
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.disks[0].capacity_bytes == NEW, || {
        format!("{:?}", records.disks)
    })
}

//! A backup is taken while a service works, and is whole. What is restored of it tells the truth, also where the world has
//! gone on since.

use std::path::Path;
use std::process::{Command, Output};

use proto::engine::v1::host::Connection;
use proto::engine::v1::{ListVmsRequest, TakeOverHostRequest};
use tests::audit::{Records, assert_no_locks, assert_storage_agrees, at_rest};
use tests::failure::{Context as _, TestResult, ensure};
use tests::programs::program;
use tests::service::Service;
use tests::{World, requests, words};

/// Backups under load.
const ROUNDS: usize = 5;

fn run(service: &Service, command: &str, file: &Path, data_dir: &Path) -> TestResult<Output> {
    let program = program(service.recipe().name)?;
    let output = Command::new(program)
        .args([command.as_ref(), file.as_os_str()])
        .arg("--data-dir")
        .arg(data_dir)
        .output()?;
    Ok(output)
}

fn works(output: &Output) -> TestResult<()> {
    ensure(output.status.success(), || {
        format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn refuses(output: &Output, text: &str) -> TestResult<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(!output.status.success() && said.contains(text), || {
        format!("{}: {said}", output.status)
    })
}

/// Stops a service, and has it run over what is restored of this backup from now on.
async fn restored(service: &mut Service, file: &Path, into: &Path) -> TestResult<()> {
    service.stop().await?;
    works(&run(service, "restore", file, into)?)?;
    service.moved_to(into.to_owned());
    Ok(())
}

/// Checks that records and storage agree, and that nothing is locked.
async fn honest(world: &World) -> TestResult<Records> {
    let records = at_rest(&world.view()).await?;
    assert_no_locks(&records)?;
    assert_storage_agrees(&world.view(), &records)?;
    Ok(records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_under_load_and_what_is_restored_of_it_goes_on() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let place = |name: &str| world.folder().join(name);
    let (first, last, into) = (place("first"), place("last"), place("restored"));
    let mut commands = Vec::new();
    for round in 0..ROUNDS {
        let vm = requests::create_vm(&format!("vm-{round}"), requests::four_disks(&domain));
        commands.push(world.create_vm(&vm).await?);
        for service in [&world.engine, &world.host] {
            let file = place(&format!("{}-{round}", service.recipe().name));
            works(&run(service, "backup", &file, &service.recipe().data_dir)?)?;
        }
    }
    let data_dir = world.engine.recipe().data_dir.clone();
    for command in &commands {
        world.succeeds(command).await?;
    }
    works(&run(&world.engine, "backup", &last, &data_dir)?)?;
    // Of the directory itself, once the service has stopped.
    let before = honest(&world).await?;
    let again = run(&world.engine, "backup", &last, &data_dir)?;
    refuses(&again, "is there already")?;
    refuses(&run(&world.host, "restore", &last, &into)?, "is of engine-svc")?;
    refuses(&run(&world.engine, "restore", &last, &data_dir)?, "is not empty")?;
    restored(&mut world.engine, &last, &into).await?;
    works(&run(&world.engine, "backup", &first, &data_dir)?)?;

    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    let after = honest(&world).await?;
    ensure(
        (&before.vms, &before.commands, &before.tasks) == (&after.vms, &after.commands, &after.tasks),
        || format!("{before:#?}\nis restored as\n{after:#?}"),
    )?;
    let removed = world.remove_vm(&requests::remove_vm(&after.vms[0].vm_id)).await?;
    world.succeeds(&removed).await?;
    honest(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_restored_from_before_its_last_start_acts_once_a_person_says_so_and_tells_the_truth()
-> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let (file, into) = (world.folder().join("backup"), world.folder().join("restored"));
    let gone = requests::create_vm("gone", requests::four_disks(&domain));
    let created = world.create_vm(&gone).await?;
    world.succeeds(&created).await?;
    works(&run(
        &world.engine,
        "backup",
        &file,
        &world.engine.recipe().data_dir,
    )?)?;
    // The world goes on: another start, a VM less, and one more.
    world.engine.stop().await?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    let removed = world.remove_vm(&requests::remove_vm(&gone.vm_id)).await?;
    world.succeeds(&removed).await?;
    let later = requests::create_vm("later", requests::four_disks(&domain));
    let created = world.create_vm(&later).await?;
    world.succeeds(&created).await?;

    restored(&mut world.engine, &file, &into).await?;
    world.restart_engine().await?;
    // The host belongs to a start that the backup has never heard of.
    world.host_is(Connection::Refused).await?;
    let refused = world.create_vm(&requests::create_vm("no", Vec::new())).await;
    ensure(refused.is_err(), || {
        "it takes commands before a person has decided".to_owned()
    })?;
    let request = TakeOverHostRequest {
        host_id: world.host_id.clone(),
        reason: "the engine's disk is lost".to_owned(),
        ..TakeOverHostRequest::default()
    };
    let mut hosts = world.client.hosts.clone();
    let command = hosts.take_over_host(request).await?.into_inner().command;
    let command = command.context("a command")?;
    world.succeeds(&command.command_id).await?;
    world.host_is(Connection::Connected).await?;
    // What it shows of the VM that is gone ends with what storage shows.
    let removed = world.remove_vm(&requests::remove_vm(&gone.vm_id)).await?;
    let ended = world.settled(&removed).await?;
    ensure(words::command_is_over(ended.state), || format!("{ended:?}"))?;
    let mut vms = world.client.vms.clone();
    let vms = vms.list_vms(ListVmsRequest::default()).await?.into_inner().vms;
    ensure(vms.is_empty(), || format!("{vms:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_restored_from_before_has_lost_its_memory_and_says_so() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let (file, into) = (world.folder().join("backup"), world.folder().join("restored"));
    works(&run(&world.host, "backup", &file, &world.host.recipe().data_dir)?)?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    restored(&mut world.host, &file, &into).await?;
    world.restart_host().await?;
    world.host_is(Connection::Connected).await?;
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.succeeds(&removed).await?;
    honest(&world).await.map(drop)
}

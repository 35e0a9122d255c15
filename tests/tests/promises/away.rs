//! A host that is away makes no command fail: its commands wait, say for whom and since when, and go on when the host
//! is back.

use proto::engine::v1::{Command, CommandState, GetHostRequest, ListTasksRequest, host::Connection};
use rustix::process::Signal;
use tests::audit::all_is_well;
use tests::failure::{Context as _, TestResult, ensure};
use tests::proxy::{Fate, Proxy};
use tests::watch::Watchers;
use tests::{World, requests, words};

/// Waits until the command says that it waits for the host, and since when.
async fn waits_for_the_host(world: &World, command_id: &str) -> TestResult<Command> {
    world.client.waits_for_host(command_id, &world.host_id).await
}

/// The number of the host's open tasks as the host is shown, checked against the list of tasks.
async fn open_tasks(world: &World) -> TestResult<u32> {
    let request = GetHostRequest {
        host_id: world.host_id.clone(),
    };
    let answer = world.client.hosts.clone().get_host(request).await?.into_inner();
    let told = answer.host.context("a host without a body")?.open_tasks;
    let mut client = world.client.tasks.clone();
    let listed = client.list_tasks(ListTasksRequest::default()).await?;
    let tasks = listed.into_inner().tasks;
    let open = tasks.iter().filter(|task| task.end_time.is_none()).count();
    ensure(told as usize == open, || format!("{told} are told of {tasks:#?}"))?;
    Ok(told)
}

#[tokio::test]
async fn a_command_waits_for_a_host_that_was_killed() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    let command = waits_for_the_host(&world, &created).await?;
    ensure(command.state == i32::from(CommandState::Active), || {
        format!("{command:#?}")
    })?;
    let open = open_tasks(&world).await?;
    ensure(open > 0, || format!("{command:#?}"))?;
    // The wait survives a restart of the engine.
    world.kill_engine().await?;
    world.restart_engine().await?;
    waits_for_the_host(&world, &created).await?;
    let again = open_tasks(&world).await?;
    ensure(again == open, || format!("{open} tasks, then {again}"))?;
    world.restart_host().await?;
    world.succeeds(&created).await?;
    let left = open_tasks(&world).await?;
    ensure(left == 0, || format!("{left} tasks are left"))?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn a_host_that_hangs_is_noticed_and_missed_by_nobody_else() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    world.host.signal(Signal::STOP)?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.host_is(Connection::Away).await?;
    waits_for_the_host(&world, &created).await?;
    world.host.signal(Signal::CONT)?;
    world.succeeds(&created).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn a_host_behind_a_slow_or_silent_network_is_only_slow() -> TestResult<()> {
    let world = World::start().await?;
    let proxy = Proxy::before(world.host.address()).await?;
    world.add_host(proxy.address()).await?;
    let domain = world.create_domain("far").await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    proxy.treat(Fate::Delay(std::time::Duration::from_millis(30)));
    proxy.cut();
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    // The proxy accepts requests and never answers: no answer is no verdict.
    proxy.treat(Fate::Swallow);
    proxy.cut();
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.host_is(Connection::Away).await?;
    waits_for_the_host(&world, &removed).await?;
    proxy.treat(Fate::Pass);
    proxy.cut();
    world.succeeds(&removed).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn adding_a_host_that_does_not_answer_waits_and_can_be_cancelled() -> TestResult<()> {
    let mut world = World::start().await?;
    let address = world.host.address();
    world.kill_host().await?;
    let request = proto::engine::v1::AddHostRequest {
        host_id: world.host_id.clone(),
        name: "host".to_owned(),
        address: address.to_string(),
        identity: String::new(),
        request_id: tests::ids::fresh(),
        validate_only: false,
        lock_wait: None,
    };
    let answer = world.client.hosts.clone().add_host(request).await?.into_inner();
    let command = answer.command.context("no command")?;
    waits_for_the_host(&world, &command.command_id).await?;
    world.client.cancel(&command.command_id).await?;
    let command = world.settled(&command.command_id).await?;
    ensure(words::command_state(command.state) == "CANCELLED", || {
        format!("{command:#?}")
    })?;
    world.restart_host().await?;
    world.add_host(address).await
}

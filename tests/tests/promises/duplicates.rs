//! A request that is sent twice runs once.

use proto::engine::v1::CreateVmRequest;
use proto::host::v1::{AbortTaskRequest, ClearTaskRequest, ListTasksRequest};
use proto::task::v1::operation::Verb;
use tests::audit::all_is_well;
use tests::failure::{Context as _, TestResult, ensure};
use tests::patience::persist;
use tests::requests::{self, KINDS};
use tests::watch::{HostTasks, Recorder, Watchers};
use tests::{World, storage, words};

#[tokio::test]
async fn a_task_that_is_sent_many_times_runs_once() -> TestResult<()> {
    let world = World::start().await?;
    let host = &world.host_client;
    let domain = host.create_domain().await?;
    let told = Recorder::start::<HostTasks>(host.channel.clone());
    let request = requests::start_task(Verb::CreateVolume(requests::create_volume(&domain, KINDS[2])));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (mut tasks, request) = (host.tasks.clone(), request.clone());
        senders.spawn(async move { tasks.start_task(request).await });
    }
    for answer in senders.join_all().await {
        let task = answer?.into_inner().task.context("no task")?;
        ensure(task.task_id == request.task_id, || format!("{task:?}"))?;
    }
    let task = host.run(&request).await?;
    ensure(words::task_state(task.state) == "FINISHED", || {
        format!("{task:?}")
    })?;
    let all = host
        .tasks
        .clone()
        .list_tasks(ListTasksRequest::default())
        .await?
        .into_inner()
        .tasks;
    ensure(all.len() == 1, || format!("{} tasks", all.len()))?;
    let last = |record: &tests::watch::Record<_>| {
        record
            .history(&request.task_id)
            .last()
            .is_some_and(|last: &&proto::host::v1::Task| last.sequence == task.sequence)
            .then_some(())
    };
    told.until("the end", last).await?;
    let violations = tests::watch::violations(&told.record());
    ensure(violations.is_empty(), || format!("{violations:?}"))?;

    // Clearing twice, and sending the task once more after that, changes nothing either.
    for _ in 0..2 {
        let clear = ClearTaskRequest {
            task_id: request.task_id.clone(),
        };
        host.tasks.clone().clear_task(clear).await?;
    }
    let again = host
        .tasks
        .clone()
        .start_task(request.clone())
        .await?
        .into_inner()
        .task
        .context("no task")?;
    ensure(words::task_state(again.state) == "FINISHED", || {
        format!("{again:?}")
    })?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.len() == 1, || format!("{images:?}"))
}

#[tokio::test]
async fn an_abort_that_comes_first_keeps_the_task_from_ever_running() -> TestResult<()> {
    let mut world = World::start().await?;
    let host = world.host_client.clone();
    let domain = host.create_domain().await?;
    let request = requests::start_task(Verb::CreateVolume(requests::create_volume(&domain, KINDS[0])));
    let abort = AbortTaskRequest {
        task_id: request.task_id.clone(),
    };
    for _ in 0..2 {
        let task = host
            .tasks
            .clone()
            .abort_task(abort.clone())
            .await?
            .into_inner()
            .task
            .context("no task")?;
        let code = task.fault.map(|fault| fault.code).unwrap_or_default();
        ensure(
            words::task_state(task.state) == "RECOVERED" && code == "NEVER_STARTED",
            || format!("{} {code}", words::task_state(task.state)),
        )?;
    }
    // Also after a kill: the record is durable.
    world.kill_host().await?;
    world.restart_host().await?;
    let answer = host.tasks.clone().start_task(request).await?.into_inner();
    let task = answer.task.context("no task")?;
    ensure(words::task_state(task.state) == "RECOVERED", || {
        format!("{task:?}")
    })?;
    let images = storage::images(&world.storage_root(), &domain);
    ensure(images.is_empty(), || format!("{images:?}"))
}

#[tokio::test]
async fn a_request_that_is_repeated_returns_the_same_command_in_its_present_state() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let create = requests::create_vm("web", requests::four_disks(&domain));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut vms, request) = (world.client.vms.clone(), create.clone());
        senders.spawn(async move { vms.create_vm(as_alice(request)).await });
    }
    let mut ids = std::collections::BTreeSet::new();
    for answer in senders.join_all().await {
        ids.insert(answer?.into_inner().command.context("no command")?.command_id);
    }
    ensure(ids.len() == 1, || format!("{} commands", ids.len()))?;
    let created = ids.pop_first().context("no id")?;
    world.succeeds(&created).await?;

    world.kill_engine().await?;
    world.restart_engine().await?;
    let again = persist(|| {
        let (mut vms, request) = (world.client.vms.clone(), create.clone());
        async move { vms.create_vm(as_alice(request)).await }
    });
    let again = again.await?.into_inner().command.context("no command")?;
    ensure(
        again.command_id == created && words::command_is_over(again.state),
        || format!("{again:?}"),
    )?;

    // A repeated removal still returns its command when the VM is long gone.
    let remove = requests::remove_vm(&create.vm_id);
    let removed = world.remove_vm(&remove).await?;
    world.succeeds(&removed).await?;
    let again = world.remove_vm(&remove).await;
    // If no user is named, the user is the peer's address, and a connection may have another port by now.
    if let Ok(again) = again {
        ensure(again == removed, || format!("{again} is not {removed}"))?;
    }
    let records = all_is_well(&world.view(), &watchers).await?;
    let creations = records
        .commands
        .iter()
        .filter(|c| words::command_kind(c.kind) == "CREATE_VM")
        .count();
    ensure(creations == 1, || format!("{creations} creations"))
}

fn as_alice(request: CreateVmRequest) -> tonic::Request<CreateVmRequest> {
    tests::client::with_metadata(request, &[("x-user", "alice")])
}

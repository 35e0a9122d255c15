//! A command holds everything that it works on; a later command is told who holds it, and since when.

use proto::engine::v1::{CreateVmRequest, GetVmRequest, LockMode, host::Connection};
use tests::audit::all_is_well;
use tests::client::{Refusal, with_metadata};
use tests::failure::{Context as _, TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests, words};
use tonic::Code;

#[tokio::test]
async fn a_second_removal_is_told_who_holds_the_vm_and_since_when() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    // While the host is away, the first removal lasts as long as this test wants.
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let mut vms = world.client.vms.clone();
    let first = vms
        .remove_vm(with_metadata(
            requests::remove_vm(&vm.vm_id),
            &[("x-user", "alice")],
        ))
        .await?;
    let first = first.into_inner().command.context("no command")?;

    let second = vms
        .remove_vm(with_metadata(
            requests::remove_vm(&vm.vm_id),
            &[("x-user", "bob")],
        ))
        .await;
    let refusal = Refusal::from(&second.err().context("two removals at once")?);
    let known = (refusal.code, refusal.reason.as_str()) == (Code::Aborted, "ENTITY_BUSY");
    let message = &refusal.fault.message;
    let names_all = message.contains(&first.command_id) && message.contains("alice");
    ensure(known && names_all && refusal.fault.repeat_may_help, || {
        format!("{refusal:?}")
    })?;

    let request = GetVmRequest {
        vm_id: vm.vm_id.clone(),
    };
    let shown = vms.get_vm(request).await?.into_inner();
    let holder = shown
        .vm
        .and_then(|vm| vm.held_by.into_iter().next())
        .context("nobody holds the VM")?;
    ensure(
        holder.command_id == first.command_id
            && holder.user == "alice"
            && holder.since.is_some()
            && holder.mode() == LockMode::Exclusive,
        || format!("{holder:?}"),
    )?;
    let disks_too = shown.disks.iter().all(|disk| {
        disk.held_by
            .first()
            .is_some_and(|holder| holder.command_id == first.command_id)
    });
    ensure(disks_too, || format!("{:?}", shown.disks))?;

    // A restarted engine still holds the locks, before anything else happens.
    world.kill_engine().await?;
    world.restart_engine().await?;
    let third = tests::patience::persist(|| {
        let mut vms = vms.clone();
        let request = requests::remove_vm(&vm.vm_id);
        async move { vms.remove_vm(request).await }
    });
    let refusal = Refusal::from(&third.await.err().context("the lock was lost")?);
    ensure(refusal.reason == "ENTITY_BUSY", || format!("{refusal:?}"))?;

    world.restart_host().await?;
    world.succeeds(&first.command_id).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn of_many_removals_at_once_one_is_accepted() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut vms, request) = (world.client.vms.clone(), requests::remove_vm(&vm.vm_id));
        racers.spawn(async move { vms.remove_vm(request).await });
    }
    let mut accepted = Vec::new();
    for answer in racers.join_all().await {
        match answer {
            Ok(answer) => accepted.push(answer.into_inner().command.context("no command")?.command_id),
            Err(status) => {
                let refusal = Refusal::from(&status);
                // Busy while the removal lasts; unknown once it is over.
                let honest = ["ENTITY_BUSY", "ENTITY_NOT_FOUND"].contains(&refusal.reason.as_str());
                ensure(honest, || format!("{refusal:?}"))?;
            }
        }
    }
    ensure(accepted.len() == 1, || {
        format!("{} were accepted", accepted.len())
    })?;
    world.succeeds(&accepted[0]).await?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

#[tokio::test]
async fn a_name_is_given_once_even_to_those_who_ask_together() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let ask = || -> CreateVmRequest { requests::create_vm("the-one", requests::four_disks(&domain)) };
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut vms, request) = (world.client.vms.clone(), ask());
        racers.spawn(async move { vms.create_vm(request).await });
    }
    let answers = racers.join_all().await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    ensure(accepted == 1, || format!("{accepted} were accepted"))?;
    let records = all_is_well(&world.view(), &watchers).await?;
    let named = records.vms.iter().filter(|vm| vm.name == "the-one").count();
    ensure(named == 1, || format!("{named} VMs have the name"))?;
    let roots = records
        .commands
        .iter()
        .filter(|command| words::command_kind(command.kind) == "CREATE_VM");
    ensure(roots.count() == 1, || {
        "a refused request left a command".to_owned()
    })
}

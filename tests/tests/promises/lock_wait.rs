//! A command whose request gives a `lock_wait` waits for its turn, first come, first served, also over a restart of
//! the engine.

use proto::engine::v1::waiting_for::What;
use proto::engine::v1::*;
use tests::audit::all_is_well;
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests, words};

const HOUR: prost_types::Duration = prost_types::Duration {
    seconds: 3_600,
    nanos: 0,
};

async fn command(world: &World, command_id: &str) -> TestResult<Command> {
    let request = GetCommandRequest {
        command_id: command_id.to_owned(),
    };
    let answer = world.client.commands.clone().get_command(request).await?;
    answer.into_inner().command.context("no command")
}

/// Who blocks a waiting command, and whether each of them waits itself.
async fn blockers(world: &World, command_id: &str) -> TestResult<Vec<(String, bool)>> {
    let command = command(world, command_id).await?;
    let Some(What::Locks(locks)) = command.waiting_for.clone().and_then(|waiting| waiting.what) else {
        ensure(false, || format!("it does not wait for locks: {command:#?}"))?;
        return Ok(Vec::new());
    };
    ensure(
        command.state() == CommandState::Pending && command.lock_wait == Some(HOUR) && command.cancelable,
        || format!("{command:#?}"),
    )?;
    let all_told = locks.by.iter().all(|lock| {
        let holder = lock.holder.as_ref();
        lock.entity.is_some() && holder.is_some_and(|holder| holder.mode() != LockMode::Unspecified)
    });
    ensure(all_told && locks.left_out == 0, || format!("{locks:?}"))?;
    let of = |lock: AwaitedLock| (lock.holder.unwrap_or_default().command_id, lock.waits);
    Ok(locks.by.into_iter().map(of).collect())
}

#[tokio::test]
async fn a_busy_disk_is_waited_for_over_a_kill_of_the_engine_and_whoever_is_stopped_or_late_changes_nothing()
-> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let disk = requests::create_disk(&domain, requests::KINDS[0]);
    let created = world.client.ask_create_disk(&disk).await?;
    world.succeeds(&created).await?;
    // While the host is away, the copy lasts as long as this test wants.
    world.kill_host().await?;
    world.host_is(host::Connection::Away).await?;
    let copy = requests::copy_disk(&disk.disk_id, &domain, requests::KINDS[2]);
    let copied = world.client.ask_copy_disk(&copy).await?;

    let mut remove = requests::remove_disk(&disk.disk_id);
    remove.lock_wait = Some(HOUR);
    let removed = world.client.ask_remove_disk(&remove).await?;
    let again = world.client.ask_remove_disk(&remove).await?;
    ensure(removed == again, || "a repeat is another command".to_owned())?;
    let ahead = blockers(&world, &removed).await?;
    ensure(ahead == [(copied.clone(), false)], || format!("{ahead:?}"))?;

    // The second copy only reads its source, and could share it with the first one; but it must not overtake the
    // command that came first.
    let next = requests::copy_disk(&disk.disk_id, &domain, requests::KINDS[0]);
    let refused = world.client.disks.clone().copy_disk(next.clone()).await;
    let refusal = Refusal::from(&refused.err().context("it passed who came first")?);
    ensure(
        refusal.reason == "ENTITY_BUSY" && refusal.fault.message.contains(&removed),
        || format!("{refusal:?}"),
    )?;
    let mut stopped = requests::copy_disk(&disk.disk_id, &domain, requests::KINDS[0]);
    stopped.lock_wait = Some(HOUR);
    let stopped = world.client.ask_copy_disk(&stopped).await?;
    let ahead = blockers(&world, &stopped).await?;
    ensure(ahead == [(removed.clone(), true)], || format!("{ahead:?}"))?;
    let mut late = requests::copy_disk(&disk.disk_id, &domain, requests::KINDS[0]);
    late.lock_wait = Some(prost_types::Duration {
        seconds: 1,
        nanos: 500_000_000,
    });
    let late = world.client.ask_copy_disk(&late).await?;

    world.kill_engine().await?;
    world.restart_engine().await?;
    let ahead = blockers(&world, &removed).await?;
    ensure(ahead == [(copied.clone(), false)], || format!("{ahead:?}"))?;
    let request = CancelCommandRequest {
        command_id: stopped.clone(),
    };
    world.client.commands.clone().cancel_command(request).await?;
    let command_id = stopped;
    let stopped = command(&world, &command_id).await?;
    ensure(
        stopped.state() == CommandState::Cancelled && stopped.child_command_ids.is_empty(),
        || format!("{stopped:#?}"),
    )?;
    let late = world.settled(&late).await?;
    let fault = late.fault.clone().unwrap_or_default();
    let named = fault.message.contains(&removed) && fault.code == "LOCK_WAIT_EXPIRED";
    ensure(
        late.state() == CommandState::Failed && named && fault.repeat_may_help,
        || format!("{late:#?}"),
    )?;

    world.restart_host().await?;
    world.succeeds(&copied).await?;
    world.succeeds(&removed).await?;
    let removal = command(&world, &removed).await?;
    ensure(removal.child_command_ids.len() == 1, || format!("{removal:#?}"))?;
    let records = all_is_well(&world.view(), &watchers).await?;
    let left: Vec<_> = records.disks.iter().map(|disk| &disk.disk_id).collect();
    let state = words::command_state(removal.state);
    ensure(left == [&copy.disk_id], || format!("{left:?} {state}"))
}

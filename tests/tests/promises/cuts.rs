//! The stream between engine and host is cut at random points, a hundred times in one command: every edge arrives
//! once, and in order.

use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tests::audit::all_is_well;
use tests::failure::{Outcome, ensure};
use tests::proxy::{Fate, Proxy};
use tests::watch::Watchers;
use tests::{World, requests, words};

/// How often the stream is cut at least.
const CUTS: usize = 100;

/// Bytes from the host after which a connection is cut: from within the connection's set-up to some edges later.
const BYTES: std::ops::Range<usize> = 1..3_000;

/// As many as a VM may have: more to tell than a hundred cut connections can.
const DISKS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cuts_in_one_command_lose_and_repeat_nothing() -> Outcome<()> {
    let seed = crate::seed();
    let world = World::start().await?;
    let proxy = Proxy::before(world.host.address()).await?;
    world.add_host(proxy.address()).await?;
    let domain = world.create_domain("first").await?;
    let watchers = Watchers::start(&world.client, &world.host_client);

    let random = Mutex::new(StdRng::seed_from_u64(seed));
    proxy.ask(move || {
        let mut random = random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Fate::CutAfter(random.random_range(BYTES))
    });
    proxy.cut();
    let disks = (0..DISKS)
        .map(|disk| requests::disk(&domain, requests::KINDS[disk % 4]))
        .collect();
    let created = world.create_vm(&requests::create_vm("web", disks)).await?;
    tests::patience::eventually("a hundred cuts", || {
        std::future::ready((proxy.cuts() >= CUTS).then_some(()))
    })
    .await?;
    let still = world
        .client
        .commands
        .clone()
        .get_command(proto::engine::v1::GetCommandRequest {
            command_id: created.clone(),
        })
        .await?;
    let still = still.into_inner().command.unwrap_or_default();
    ensure(!words::command_is_over(still.state), || {
        "it was over before the last cut".to_owned()
    })?;
    proxy.treat(Fate::Pass);
    proxy.cut();
    world.succeeds(&created).await?;
    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.tasks.len() == DISKS, || {
        format!("{} tasks", records.tasks.len())
    })?;
    for task in &records.tasks {
        let host: Vec<_> = states(
            watchers
                .host
                .record()
                .history(&task.task_id)
                .iter()
                .map(|task| task.state),
        );
        let engine = states(
            watchers
                .engine
                .tasks
                .record()
                .history(&task.task_id)
                .iter()
                .map(|task| task.state),
        );
        ensure(host == engine && !task.resynced, || {
            format!(
                "the host told {host:?}, the engine {engine:?}, resynced {}",
                task.resynced
            )
        })?;
    }
    eprintln!("{} cuts", proxy.cuts());
    Ok(())
}

/// A task's states as they were told, without those changes that were of something else.
fn states(states: impl Iterator<Item = i32>) -> Vec<String> {
    let mut states: Vec<_> = states
        .filter(|state| *state != 0)
        .map(words::task_state)
        .collect();
    states.dedup();
    states
}

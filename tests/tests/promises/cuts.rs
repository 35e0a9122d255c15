//! The stream between engine and host is cut at random points, a hundred times during one command: every edge arrives
//! once, and in order.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::engine::v1::{AsyncTask, GetCommandRequest};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tests::audit::all_is_well;
use tests::failure::{Context as _, TestResult, ensure};
use tests::gate::at_work;
use tests::patience::eventually;
use tests::programs::write_script;
use tests::proxy::{Fate, Proxy};
use tests::watch::{Record, Watchers};
use tests::{World, requests, words};

/// The minimum number of cuts.
const CUTS: usize = 100;

/// Bytes from the host after which a connection is cut: from within its set-up to a few edges later.
const BYTES: std::ops::Range<usize> = 1..3_000;

/// Milliseconds after which the connection is cut at the latest.
const MILLISECONDS: std::ops::Range<u64> = 20..120;

/// The maximum number of a VM's disks.
const DISKS: usize = 64;

/// One more disk may be made after this many cuts, so that edges come all the time and the command outlasts the cuts.
const CUTS_A_DISK: usize = 2;

/// A qemu-img that makes a disk only when it may: when a file beside the image is named after it, or, for all disks,
/// once `open` exists.
const GATED_QEMU_IMG: &str = r#"#!/usr/bin/perl
my ($here) = $0 =~ m{^(.*)/};
if ($ARGV[0] eq 'create') {
  my ($image) = readlink($ARGV[-2]) =~ m{([^/]+)/[^/]+$};
  select undef, undef, undef, 0.01 until -e "$here/open" or -e "$here/go-$image";
}
exec 'qemu-img', @ARGV;
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cuts_in_one_command_lose_and_repeat_nothing() -> TestResult<()> {
    let seed = crate::seed();
    let tools = tempfile::tempdir()?;
    let qemu_img = tools.path().join("qemu-img");
    write_script(&qemu_img, GATED_QEMU_IMG).await?;
    let program = qemu_img.display().to_string();
    let world = World::start_with(&["--running-per-domain", "1", "--qemu-img", &program]).await?;
    let proxy = Proxy::before(world.host.address()).await?;
    world.add_host(proxy.address()).await?;
    let domain = world.create_domain("first").await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    watchers.tell_edges().await?;

    let disks = (0..DISKS)
        .map(|_| requests::disk(&domain, requests::KINDS[2]))
        .collect();
    let created = world.create_vm(&requests::create_vm("web", disks)).await?;
    // Once the host has accepted all tasks, only the stream is left to be cut.
    let accepted = |record: &Record<AsyncTask>| {
        let heard = |task: &&&AsyncTask| task.state != 0;
        (record.latest().values().filter(heard).count() == DISKS).then_some(())
    };
    watchers.engine.tasks.until("every task", accepted).await?;
    let random = Mutex::new(StdRng::seed_from_u64(seed));
    proxy.ask(move || {
        let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
        Fate::Cut {
            bytes: random.random_range(BYTES),
            time: Duration::from_millis(random.random_range(MILLISECONDS)),
        }
    });
    proxy.cut();
    while proxy.cuts() < CUTS {
        let enough = proxy.cuts() + CUTS_A_DISK;
        eventually("cuts, and a disk to be made", || {
            let waits = at_work(&qemu_img, "create").into_iter();
            let go = waits
                .map(|image| tools.path().join(format!("go-{image}")))
                .find(|go| !go.exists());
            std::future::ready(go.filter(|_| proxy.cuts() >= enough))
        })
        .await
        .context(format!("{} cuts so far", proxy.cuts()))
        .and_then(|go| Ok(std::fs::write(go, "")?))?;
    }
    let still = world
        .client
        .commands
        .clone()
        .get_command(GetCommandRequest {
            command_id: created.clone(),
        })
        .await?;
    let still = still.into_inner().command.unwrap_or_default();
    ensure(!words::command_is_over(still.state), || {
        "it was over before the last cut".to_owned()
    })?;
    proxy.treat(Fate::Pass);
    proxy.cut();
    std::fs::write(tools.path().join("open"), "")?;
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

/// A task's states as they were announced, without changes of something else.
fn states(states: impl Iterator<Item = i32>) -> Vec<String> {
    let mut states: Vec<_> = states
        .filter(|state| *state != 0)
        .map(words::task_state)
        .collect();
    states.dedup();
    states
}

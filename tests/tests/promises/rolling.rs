//! Both services are replaced one after the other, as an upgrade does, under twenty commands at work and a thousand watches:
//! each drains in time, and no command notices.

use std::time::{Duration, Instant};

use proto::engine::v1::{AsyncTask, Command, CommandState};
use tests::audit::all_is_well;
use tests::client::Engine;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::gate::Gate;
use tests::watch::{Frame, Frames, Selection, Start, Tasks, Watch as _, Watchers};
use tests::{World, requests};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::Code;

const COMMANDS: usize = 20;
const CONNECTIONS: usize = 100;
const WATCHES_EACH: usize = 10;

/// What operators are promised (docs/operations.md), and what a supervisor gives a service to end.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_both_services_under_load_loses_nothing_and_takes_seconds() -> TestResult<()> {
    let gate = Gate::open().await?;
    let mut world = World::start_with(&["--qemu-img", &gate.program()]).await?;
    let domain = world.furnish().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let source = requests::create_disk(&domain, requests::KINDS[0]);
    let created = world.client.ask_create_disk(&source).await?;
    world.succeeds(&created).await?;
    // From here on no copy ends before both services were replaced.
    gate.shut("convert")?;
    let mut copies = Vec::new();
    for n in 0..COMMANDS {
        let kind = requests::KINDS[n % requests::KINDS.len()];
        let copy = requests::copy_disk(&source.disk_id, &domain, kind);
        copies.push(world.client.ask_copy_disk(&copy).await?);
    }
    gate.reached().await?;

    let streams = watch(&world).await?;
    let begin = Instant::now();
    world.engine.stop().await?;
    in_time("the engine", begin)?;
    for (n, mut frames) in streams.into_iter().enumerate() {
        let mut said = Vec::new();
        while let Some(frame) = frames.next().await {
            said.push(frame);
        }
        let closing = said
            .iter()
            .any(|frame| matches!(frame, Ok(Frame::Closing { .. })));
        let away = matches!(said.last(), Some(Err(status)) if status.code() == Code::Unavailable);
        ensure(closing && away, || {
            format!("at the end watch {n} was told {said:?}")
        })?;
    }
    world.restart_engine().await?;

    let begin = Instant::now();
    world.host.stop().await?;
    in_time("the host", begin)?;
    world.restart_host().await?;

    gate.reopen()?;
    for copied in &copies {
        world.succeeds(copied).await?;
    }
    let records = all_is_well(&world.view(), &watchers).await?;
    let succeeded = |id: &String| {
        let of = |command: &&Command| command.command_id == *id;
        records.commands.iter().find(of).map(|command| command.state()) == Some(CommandState::Succeeded)
    };
    ensure(copies.iter().all(succeeded), || "a copy is lost".to_owned())?;
    ensure(records.disks.len() == 1 + COMMANDS, || {
        format!("{} disks", records.disks.len())
    })
}

fn in_time(who: &str, begin: Instant) -> TestResult<()> {
    let took = begin.elapsed();
    ensure(took < DRAIN, || format!("{who} took {took:?} to end"))
}

/// A thousand watches of the engine's tasks, each past its first frame.
async fn watch(world: &World) -> TestResult<Vec<Frames<AsyncTask>>> {
    let address = world.engine.address();
    let mut opening = JoinSet::new();
    for _ in 0..CONNECTIONS {
        opening.spawn(async move {
            let client = Engine::at(address)?;
            let mut frames = Vec::with_capacity(WATCHES_EACH);
            for _ in 0..WATCHES_EACH {
                let everything = Selection::default();
                let mut one = Tasks::open(client.channel.clone(), Start::Now, &everything).await?;
                one.next().await.context("a frame")??;
                frames.push(one);
            }
            Ok::<_, Failure>(frames)
        });
    }
    let mut all = Vec::new();
    while let Some(opened) = opening.join_next().await {
        all.extend(opened.map_err(|error| Failure::new(error.to_string()))??);
    }
    Ok(all)
}

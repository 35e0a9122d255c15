//! A watcher that resumes after its last token sees no gap and no repeat, across restarts of the watched service.

use proto::task::v1::{HistoryRange, history_range::Problem};
use tests::audit::all_is_well;
use tests::client::detail;
use tests::failure::{Context as _, TestResult, ensure};
use tests::watch::{
    Arrived, Commands, Frame, HostTasks, Item, Record, Recorder, Selection, Start, Tasks, Watch, Watchers,
};
use tests::{World, requests, words};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Channel;

#[tokio::test]
async fn watchers_resume_across_restarts_of_the_engine() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let engine = &watchers.engine;
    engine.open(1).await?;
    for round in 0..3 {
        let vm = requests::create_vm(&format!("web-{round}"), requests::four_disks(&domain));
        let created = world.create_vm(&vm).await?;
        told(&engine.tasks, &created, round * 4 + 1).await?;
        world.kill_engine().await?;
        world.restart_engine().await?;
        engine.open(round * 2 + 2).await?;
        world.succeeds(&created).await?;
        let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
        told(&engine.tasks, &removed, round * 3 + 2).await?;
        // A regular stop this time.
        world.engine.stop().await?;
        world.restart_engine().await?;
        engine.open(round * 2 + 3).await?;
        world.succeeds(&removed).await?;
    }
    all_is_well(&world.view(), &watchers).await?;
    never_anew(&engine.commands.record())?;
    never_anew(&engine.tasks.record())?;
    never_anew(&engine.jobs.record())?;
    never_anew(&engine.events.record())
}

#[tokio::test]
async fn watchers_resume_across_restarts_of_the_host() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    watchers.host.opens(1).await?;
    for round in 0..4 {
        let vm = requests::create_vm(&format!("web-{round}"), requests::four_disks(&domain));
        let created = world.create_vm(&vm).await?;
        told(&watchers.engine.tasks, &created, round * 4 + 1).await?;
        world.kill_host().await?;
        world.restart_host().await?;
        watchers.host.opens(round + 2).await?;
        // The work that the kill interrupted is undone, and sent again.
        world.succeeds(&created).await?;
    }
    all_is_well(&world.view(), &watchers).await?;
    never_anew(&watchers.host.record())
}

/// Waits until this many changes of a tree's tasks were announced.
async fn told(
    recorder: &Recorder<proto::engine::v1::AsyncTask>,
    root: &str,
    changes: usize,
) -> TestResult<()> {
    let enough = |record: &Record<proto::engine::v1::AsyncTask>| {
        let told = record.items().filter(|task| task.root_command_id == root).count();
        (told >= changes).then_some(())
    };
    recorder.until("enough changes", enough).await
}

/// Checks that each stream except the first was resumed after a token.
fn never_anew<I: Item>(record: &Record<I>) -> TestResult<()> {
    let anew = |arrived: &Arrived<I>| match &arrived.frame {
        Frame::OutOfRange => true,
        Frame::Asked { start } => matches!(start, Start::Snapshot),
        _ => false,
    };
    let anew = record
        .frames
        .iter()
        .skip(1)
        .filter(|arrived| anew(arrived))
        .count();
    ensure(anew == 0, || format!("{}: {anew} streams started anew", I::NAME))
}

/// Opens a stream and reads its first frame.
async fn first<W: Watch>(channel: &Channel, start: Start) -> Result<Option<Frame<W::Item>>, tonic::Status> {
    W::open(channel.clone(), start, &Selection::default())
        .await?
        .next()
        .await
        .transpose()
}

#[tokio::test]
async fn a_token_is_good_for_every_watch_of_its_service_and_for_no_other() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    all_is_well(&world.view(), &watchers).await?;
    let of_commands = watchers
        .engine
        .commands
        .record()
        .token()
        .context("no token")?
        .to_owned();
    let of_host = watchers.host.record().token().context("no token")?.to_owned();

    let frame = first::<Tasks>(&world.client.channel, Start::After(of_commands.clone())).await?;
    ensure(matches!(frame, Some(Frame::Opened { .. })), || {
        format!("{frame:?}")
    })?;
    let foreign = first::<Commands>(&world.client.channel, Start::After(of_host)).await;
    out_of_range(foreign, Problem::UnknownStore)?;
    let foreign = first::<HostTasks>(&world.host_client.channel, Start::After(of_commands.clone())).await;
    out_of_range(foreign, Problem::UnknownStore)?;
    let mut parts: Vec<_> = of_commands.split('.').map(str::to_owned).collect();
    parts[2] = u64::MAX.to_string();
    let future = first::<Tasks>(&world.client.channel, Start::After(parts.join("."))).await;
    out_of_range(future, Problem::Future)?;
    parts[1] = format!("{:016x}", 1);
    let strange = first::<Tasks>(&world.client.channel, Start::After(parts.join("."))).await;
    out_of_range(strange, Problem::UnknownStart)
}

fn out_of_range<I: Item>(
    answer: Result<Option<Frame<I>>, tonic::Status>,
    problem: Problem,
) -> TestResult<()> {
    let status = answer.err().context("a stream started silently somewhere else")?;
    let range: HistoryRange = detail(&status, "type.googleapis.com/vdsm_engine.task.v1.HistoryRange")
        .context("no range in the details")?;
    let named = status.code() == Code::OutOfRange
        && range.problem == i32::from(problem)
        && !range.oldest_token.is_empty()
        && !range.current_token.is_empty();
    ensure(named, || format!("expected {problem:?}: {status:?} {range:?}"))
}

#[tokio::test]
async fn a_token_of_an_answer_is_before_nothing_that_the_call_changed() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let request = requests::create_vm("web", requests::four_disks(&domain));
    let answer = world.client.vms.clone().create_vm(request).await?.into_inner();
    let command = answer.command.context("no command")?;
    // The change of the call is in no stream that starts after its token, and in every later read.
    let mut frames = Commands::open(
        world.client.channel.clone(),
        Start::After(answer.token),
        &Selection::default(),
    )
    .await?;
    world.succeeds(&command.command_id).await?;
    loop {
        let frame = frames.next().await.context("the stream ended")??;
        if let Frame::Changes(changes) = frame {
            let root = changes
                .items
                .iter()
                .find(|item| item.command_id == command.command_id);
            if let Some(root) = root {
                ensure(root.sequence > command.sequence, || {
                    format!("told again: {root:?}")
                })?;
            }
            if changes
                .items
                .iter()
                .any(|item| words::command_is_over(item.state))
            {
                return Ok(());
            }
        }
    }
}

#[tokio::test]
async fn a_snapshot_shows_what_a_stream_told() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let early = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    all_is_well(&world.view(), &early).await?;
    let late = Watchers::start(&world.client, &world.host_client);
    same(&early.engine.commands, &late.engine.commands).await?;
    same(&early.engine.tasks, &late.engine.tasks).await?;
    same(&early.engine.jobs, &late.engine.jobs).await?;
    late.check()
}

/// Checks that the late watcher's snapshot shows what the early watcher was told last.
async fn same<I: Item>(early: &Recorder<I>, late: &Recorder<I>) -> TestResult<()> {
    late.until("its snapshot", |record| record.token().map(drop))
        .await?;
    let late = late.record().clone();
    let shown = late.latest();
    // The last change for the early watcher may still be on its way.
    let is_shown = |(key, item): (&String, &&I)| {
        let other = shown.get(key);
        other.is_some_and(|other| (item.sequence(), item.state()) == (other.sequence(), other.state()))
    };
    let same = |record: &Record<I>| record.latest().iter().all(is_shown).then_some(());
    let seen = early.until("what the snapshot shows", same).await;
    seen.context(format!(
        "told {:?}, and the snapshot shows {shown:?}",
        early.record().latest()
    ))
}

//! `WaitCommand` returns when the command ends, when it rests, or when the time is up, and says which.

use std::time::{Duration, Instant};

use proto::engine::v1::{CommandState, WaitCommandRequest, host::Connection};
use tests::failure::{Context as _, TestResult, ensure};
use tests::{World, requests};

#[tokio::test]
async fn waiting_ends_with_the_command_or_with_the_time_given() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    let wait = |nanos| WaitCommandRequest {
        command_id: created.clone(),
        timeout: Some(prost_types::Duration { seconds: 0, nanos }),
    };
    let began = Instant::now();
    let answer = world
        .client
        .commands
        .clone()
        .wait_command(wait(200_000_000))
        .await?
        .into_inner();
    let command = answer.command.context("no command")?;
    ensure(
        !answer.done && command.state == i32::from(CommandState::Active),
        || format!("{command:#?}"),
    )?;
    ensure(began.elapsed() >= Duration::from_millis(200), || {
        "it did not wait".to_owned()
    })?;

    // Several clients wait at once, and all are told.
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut commands = world.client.commands.clone();
        let request = WaitCommandRequest {
            command_id: created.clone(),
            timeout: Some(prost_types::Duration {
                seconds: 60,
                nanos: 0,
            }),
        };
        waiting.spawn(async move { commands.wait_command(request).await });
    }
    world.restart_host().await?;
    for answer in waiting.join_all().await {
        let answer = answer?.into_inner();
        let command = answer.command.context("no command")?;
        ensure(
            answer.done && command.state == i32::from(CommandState::Succeeded),
            || format!("{command:#?}"),
        )?;
    }
    // A command that has ended is answered at once.
    let answer = world
        .client
        .commands
        .clone()
        .wait_command(wait(0))
        .await?
        .into_inner();
    ensure(answer.done, || "it has ended, and that was not said".to_owned())
}

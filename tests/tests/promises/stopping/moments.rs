//! `cancelable`, and what cancelling would undo, are recorded correctly at each moment.

use proto::engine::v1::host::Connection;
use rustix::process::Signal;
use tests::client::Refusal;
use tests::failure::{TestResult, ensure};
use tests::patience::eventually;
use tests::words;

use super::scene::{Scene, UNDO};

#[tokio::test(flavor = "multi_thread")]
async fn what_cancelling_would_do_is_said_at_each_moment_and_after_each_restart() -> TestResult<()> {
    let mut scene = Scene::set().await?;
    scene.gate.shut("convert")?;
    let engine = scene.world.client.clone();

    // Before the host has heard of the task.
    scene.world.kill_host().await?;
    engine.sees_host(&scene.world.host_id, Connection::Away).await?;
    let first = scene.copy().await?;
    for _ in 0..2 {
        let (task, command) = scene.records(&first).await?;
        ensure(
            task.state == 0 && command.cancelable && command.undo.is_empty() && task.undo.is_empty(),
            || format!("{task:#?} {command:#?}"),
        )?;
        scene.world.kill_engine().await?;
        scene.world.restart_engine().await?;
    }
    scene.world.restart_host().await?;

    // One copy at work, and one that waits for its turn.
    scene.is(&first, "RUNNING", true, UNDO).await?;
    let second = scene.copy().await?;
    scene.is(&second, "QUEUED", true, "").await?;
    scene.world.kill_engine().await?;
    scene.world.restart_engine().await?;
    scene.is(&first, "RUNNING", true, UNDO).await?;
    scene.is(&second, "QUEUED", true, "").await?;

    // A waiting task is stopped at once, and nothing of it ever ran.
    scene.cancel(&second).await?;
    let command = engine.settled(&second.command_id).await?;
    ensure(words::command_state(command.state) == "CANCELLED", || {
        format!("{command:#?}")
    })?;
    scene.is(&second, "RECOVERED", false, "").await?;
    let (task, _) = scene.records(&second).await?;
    let ran = scene
        .watchers
        .host
        .record()
        .items()
        .any(|told| told.task_id == task.task_id && words::task_state(told.state) == "RUNNING");
    ensure(!ran, || "it ran".to_owned())?;
    scene.is(&first, "RUNNING", true, UNDO).await?;

    // The restarted host undoes the task, and the engine sends it again.
    let (undone, _) = scene.records(&first).await?;
    scene.world.kill_host().await?;
    scene.world.restart_host().await?;
    eventually("the copy to be asked for again", || async {
        let (newest, _) = scene.records(&first).await.ok()?;
        (newest.task_id != undone.task_id).then_some(())
    })
    .await?;
    scene.is(&first, "RUNNING", true, UNDO).await?;

    scene.cancel(&first).await?;
    scene.is_undone(&first).await?;
    scene.is(&first, "RECOVERED", false, "").await?;
    let again = engine.cancel(&first.command_id).await;
    let refusal = again.err().map(|status| Refusal::from(&status).reason);
    ensure(refusal.as_deref() == Some("COMMAND_ENDED"), || {
        format!("{refusal:?}")
    })
}

/// The program ignores SIGTERM, so that stopping it takes as long as the host is patient.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_stopped_can_be_stopped_no_more_and_asking_again_is_harmless() -> TestResult<()> {
    let mut scene = Scene::set().await?;
    scene.gate.deafen()?;
    let copying = scene.copy_in_the_middle().await?;
    let first = scene.cancel(&copying).await?;
    scene.is(&copying, "ABORTING", false, "").await?;
    let second = scene.cancel(&copying).await?;
    ensure(
        first.cancel_requested && second.cancel_requested && second.command_id == first.command_id,
        || format!("{first:#?} {second:#?}"),
    )?;
    // The host is stopped, so that its patience does not end meanwhile.
    scene.world.host.signal(Signal::STOP)?;
    scene.world.kill_engine().await?;
    scene.world.restart_engine().await?;
    scene.is(&copying, "ABORTING", false, "").await?;
    scene.cancel(&copying).await?;
    scene.world.host.signal(Signal::CONT)?;
    scene.is_undone(&copying).await.map(drop)
}

//! A request to stop survives the restart of either service, whatever the work is at when the service stops.

use proto::engine::v1::disk_observation::Presence;
use tests::audit;
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{Context as _, TestResult, ensure};
use tests::words;

use super::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cancelled_is_undone_whoever_is_killed_at_once() -> TestResult<()> {
    let mut scene = Scene::set().await?;
    for (engine, host) in [(true, false), (false, true), (true, true)] {
        let copying = scene.copy_in_the_middle().await?;
        scene.cancel(&copying).await?;
        if engine {
            scene.world.kill_engine().await?;
        }
        if host {
            scene.world.kill_host().await?;
            scene.world.restart_host().await?;
        }
        if engine {
            scene.world.restart_engine().await?;
        }
        scene
            .is_undone(&copying)
            .await
            .context(format!("{engine} {host}"))?;
        scene.gate.reopen()?;
    }
    Ok(())
}

/// The process that copies outlives its host, and must not outlive the command.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_host_was_killed_is_cancelled_and_undone_when_the_host_is_back() -> TestResult<()> {
    let mut scene = Scene::set().await?;
    let copying = scene.copy_in_the_middle().await?;
    scene.world.kill_host().await?;
    let command = scene.cancel(&copying).await?;
    ensure(
        words::command_state(command.state) == "ACTIVE" && command.cancel_requested,
        || format!("{command:#?}"),
    )?;
    scene.world.kill_engine().await?;
    scene.world.restart_engine().await?;
    let waiting = scene
        .world
        .client
        .waits_for_host(&copying.command_id, &scene.world.host_id);
    waiting.await?;
    // Cancelling twice, also across a restart.
    scene.cancel(&copying).await?;
    scene.world.restart_host().await?;
    scene.is_undone(&copying).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_that_is_cut_off_in_its_undo_is_undone_by_the_next_start() -> TestResult<()> {
    let mut scene = Scene::set().await?;
    for point in [
        "undo_file.before",
        "undo_file.after",
        "undo_image.before",
        "undo_sync_images.after",
    ] {
        let boundary = Boundary {
            point: format!("copy_volume.{point}"),
            hit: 1,
        };
        scene
            .host_dies_at(&FailPoints {
                kill: Some(boundary),
                ..FailPoints::default()
            })
            .await?;
        let copying = scene.copy_in_the_middle().await?;
        scene.cancel(&copying).await?;
        scene.world.host.killed_itself().await.context(point)?;
        scene.world.kill_engine().await?;
        scene.world.restart_engine().await?;
        scene.cancel(&copying).await?;
        scene.world.restart_host().await?;
        scene.is_undone(&copying).await.context(point)?;
        scene.gate.reopen()?;
    }
    Ok(())
}

/// The host dies right after the commit point, and the command is cancelled while the host is away: the copy stays.
#[tokio::test(flavor = "multi_thread")]
async fn past_the_point_of_no_return_a_cancelled_copy_runs_on_across_restarts() -> TestResult<()> {
    let mut scene = Scene::set().await?;
    let boundary = Boundary {
        point: "copy_volume.write_meta.after".to_owned(),
        hit: 1,
    };
    scene
        .host_dies_at(&FailPoints {
            kill: Some(boundary),
            ..FailPoints::default()
        })
        .await?;
    let copying = scene.copy().await?;
    scene.world.host.killed_itself().await?;
    for _ in 0..2 {
        scene.cancel(&copying).await?;
        scene.world.kill_engine().await?;
        scene.world.restart_engine().await?;
    }
    scene.world.restart_host().await?;
    let command = scene.world.settled(&copying.command_id).await?;
    ensure(
        words::command_state(command.state) == "SUCCEEDED" && command.cancel_requested,
        || format!("{command:#?}"),
    )?;
    let records = audit::all_is_well(&scene.world.view(), &scene.watchers).await?;
    let copy = records
        .disks
        .iter()
        .find(|disk| disk.disk_id == copying.request.disk_id);
    let seen = copy
        .and_then(|disk| disk.observation.as_ref())
        .map(|seen| seen.presence);
    ensure(seen == Some(Presence::Whole.into()), || format!("{copy:?}"))
}

//! SIGKILL at the boundaries: of the engine, of the host, and of both. Afterwards the end is the same as without a
//! kill; nothing is locked; records, storage and watchers agree.
//!
//! The boundaries are enumerated by a run without a kill that records every point that is passed: the host's steps,
//! and the points before and after each commit and each effect of both services. A run of all tests tries a sample
//! that the seed draws and that `SEED` repeats; `make kills` tries all boundaries, and fails if nobody was killed at
//! a point that each undisturbed run passes, or that the host's own table names. A run that ends without its kill
//! counts as undisturbed: some points lie in a race, and the machine decides how often they come. `KILL_ONLY`
//! restricts the kills to those with the given text (`Engine commit.before@3 both`).
//!
//! In addition, each run of all tests kills each step of each operation in one process: the tests of the storage do
//! that.

mod boundaries;
mod choice;
mod matrix;
mod scenario;
mod slot;
mod trial;

use proto::engine::v1::CommandKind;
use tests::failure::TestResult;

use scenario::Scenario;

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_vm_survives_a_kill_at_any_boundary() -> TestResult<()> {
    matrix::run(Scenario::Remove).await
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_vm_survives_a_kill_at_any_boundary() -> TestResult<()> {
    matrix::run(Scenario::Create).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_fails_survives_a_kill_at_any_boundary() -> TestResult<()> {
    matrix::run(Scenario::CreateFailing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_a_disk_survives_a_kill_at_any_boundary() -> TestResult<()> {
    matrix::run(Scenario::Copy).await
}

#[tokio::test(flavor = "multi_thread")]
async fn extending_a_disk_survives_a_kill_at_any_boundary() -> TestResult<()> {
    matrix::run(Scenario::Extend).await
}

/// Where a command is killed at its boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// Here, with the real programs.
    Here(Scenario),
    /// Here, as another kind that has all of its tasks; the stories of the engine's core kill it in one process after
    /// each of its own commits.
    As(CommandKind),
    /// No task is done for it: in one process, by the stories of the engine's core.
    InCore,
}

/// Says where each kind is killed; a new kind must be added here.
const fn scene(kind: CommandKind) -> Option<Scene> {
    Some(match kind {
        CommandKind::Unspecified => return None,
        CommandKind::CreateVm => Scene::Here(Scenario::Create),
        CommandKind::RemoveVm => Scene::Here(Scenario::Remove),
        CommandKind::CopyDisk => Scene::Here(Scenario::Copy),
        CommandKind::ExtendDisk => Scene::Here(Scenario::Extend),
        CommandKind::CreateImage | CommandKind::CreateDisk => Scene::As(CommandKind::CreateVm),
        CommandKind::RemoveAllVmImages | CommandKind::RemoveImage | CommandKind::RemoveDisk => {
            Scene::As(CommandKind::RemoveVm)
        }
        CommandKind::CopyImage => Scene::As(CommandKind::CopyDisk),
        CommandKind::AddHost
        | CommandKind::RemoveHost
        | CommandKind::TakeOverHost
        | CommandKind::CreateStorageDomain
        | CommandKind::AttachDisk
        | CommandKind::DetachDisk => Scene::InCore,
    })
}

#[test]
fn whoever_is_killed_as_another_is_killed_here() {
    for kind in (0..i32::MAX).map_while(|value| CommandKind::try_from(value).ok()) {
        if let Some(Scene::As(other)) = scene(kind) {
            assert!(
                matches!(scene(other), Some(Scene::Here(_))),
                "{kind:?} as {other:?}"
            );
        }
    }
}

//! Run directories that cannot be read: the faults say what is hidden, and nothing hidden counts as a process. Every
//! wait for such a directory ends, and no other task waits at all.

use proto::host::v1::{GetHostInfoRequest, HostInfo};
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::gate::Gate;
use tests::lone_host::LoneHost;
use tests::storage;

use super::*;

/// The number of tasks that a host runs at a time here.
const AT_ONCE: usize = 3;

async fn info(host: &Host) -> TestResult<HostInfo> {
    let answer = host
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await;
    answer.context("GetHostInfo")?.into_inner().host.context("a host")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_their_way_fails_what_needs_them_at_once_and_nothing_else() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let domain_id = host.client.create_domain().await?;
    let volume = create(&host.client, &domain_id).await?;
    let runs = storage::runs(&host.storage_root());
    std::fs::remove_dir_all(&runs)?;
    std::fs::write(&runs, "in the way")?;
    for kind in 0..10 {
        let (request, address) = creation(&domain_id, kind % 4);
        let sentence = fails(&host.client, &request, "NOT_A_REGULAR_FILE").await?;
        ensure(sentence.contains("/run"), || sentence.clone())?;
        let images = storage::images(&host.storage_root(), &domain_id);
        ensure(!images.contains(&address.image_id), || format!("{images:?}"))?;
    }
    succeeds(&host.client, &deletion(&volume)).await?;
    let told = info(&host.client).await?;
    ensure(
        told.stranger_task_ids.is_empty() && told.unreadable_run_directories.len() == 1,
        || format!("{told:#?}"),
    )?;
    std::fs::remove_file(&runs)?;
    is_served(&host.client, &domain_id).await?;
    let told = info(&host.client).await?;
    ensure(told.unreadable_run_directories.is_empty(), || {
        format!("{told:#?}")
    })?;
    host.service.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_which_a_restart_cannot_tell_whether_a_process_is_left_end_with_that_and_block_nobody()
-> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let gate = Gate::open().await?;
    let (program, at_once) = (gate.program(), AT_ONCE.to_string());
    let arguments = ["--qemu-img", &program, "--running-per-host", &at_once];
    let mut host = LoneHost::start_with(folder.path(), &arguments).await?;
    let domain_id = host.client.create_domain().await?;
    let volume = create(&host.client, &domain_id).await?;
    let (runs, aside) = (storage::runs(&host.storage_root()), folder.path().join("runs"));

    gate.shut("create")?;
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        let (request, _) = creation(&domain_id, 2);
        host.client.tasks.clone().start_task(request.clone()).await?;
        tasks.push(request.task_id);
    }
    gate.reached().await?;
    host.service.kill().await?;
    std::fs::rename(&runs, &aside)?;
    std::fs::write(&runs, "in the way")?;
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    succeeds(&host.client, &deletion(&volume)).await?;
    for task_id in tasks {
        let task = host.client.ended(&task_id).await?;
        let code = task.undo_fault.clone().unwrap_or_default().code;
        let begun = code == "NOT_A_REGULAR_FILE" && words::task_state(task.state) == "FAILED";
        // A task that had not begun when the host was killed has nothing to undo.
        let not_begun = words::task_state(task.state) == "RECOVERED";
        ensure(begun || not_begun, || format!("{task:#?}"))?;
    }
    std::fs::remove_file(&runs)?;
    gate.reopen()?;
    is_served(&host.client, &domain_id).await?;
    host.service.stop().await
}

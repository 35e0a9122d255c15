//! The data directory of a running service is removed, moved or replaced: the service accepts no more work, says so
//! in its answers, its log and its health, ends with an error, and everything acknowledged is found again.

use std::path::{Path, PathBuf};

use proto::host::v1::GetTaskRequest;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::patience::eventually;
use tests::programs::program;
use tests::service::Service;
use tests::world::World;
use tests::{client, requests, words};

/// Whether `--health` says that the service on this directory serves; a copy of the file with its address is kept
/// elsewhere.
async fn is_healthy(name: &str, data_dir: &Path) -> TestResult<bool> {
    let mut command = tokio::process::Command::new(program(name)?);
    // No other argument is given.
    command.arg("--health").arg("--data-dir").arg(data_dir);
    Ok(command.output().await?.status.success())
}

/// Keeps the address where it is found without the data directory.
fn keep_address(data_dir: &Path) -> TestResult<tempfile::TempDir> {
    let kept = tempfile::tempdir()?;
    std::fs::copy(data_dir.join("address"), kept.path().join("address"))?;
    Ok(kept)
}

/// Checks that the service logs what happened, and ends with an error.
async fn says_so(service: &mut Service, name: &str, address: &Path) -> TestResult<()> {
    eventually("the loss to be told", || async {
        let told = service.log_tail(50).contains("THE DATA DIRECTORY IS LOST");
        let healthy = is_healthy(name, address).await.unwrap_or(true);
        (told && !healthy).then_some(())
    })
    .await
}

async fn ends_with_an_error(service: &mut Service) -> TestResult<()> {
    service.signal(rustix::process::Signal::TERM)?;
    let status = service.ended().await?.context("it ran")?;
    ensure(status.code() == Some(1), || {
        format!("{status}:\n{}", service.log_tail(10))
    })
}

type Lose = fn(&Path) -> std::io::Result<PathBuf>;

/// The ways to lose the directory, and where its contents are found then.
const WAYS: [Lose; 3] = [
    |dir| {
        std::fs::remove_dir_all(dir)?;
        Ok(dir.with_extension("saved-1"))
    },
    |dir| {
        std::fs::remove_dir_all(dir)?;
        std::fs::create_dir(dir)?;
        Ok(dir.with_extension("saved-1"))
    },
    |dir| {
        std::fs::rename(dir, dir.with_extension("moved"))?;
        std::fs::create_dir(dir)?;
        Ok(dir.with_extension("moved"))
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_data_directory_is_lost_says_so_and_what_it_held_is_found_again() -> TestResult<()> {
    for lose in WAYS {
        let folder = tempfile::tempdir()?;
        let mut host = LoneHost::start_below(folder.path()).await?;
        let data_dir = folder.path().join("host");
        let domain_id = host.client.create_domain().await?;
        let volume = requests::create_volume(&domain_id, requests::KINDS[2]);
        let request = requests::start_task(proto::task::v1::operation::Verb::CreateVolume(volume));
        host.client.run(&request).await?;
        let address = keep_address(&data_dir)?;
        ensure(is_healthy("vdsm-svc", address.path()).await?, || {
            "it serves".to_owned()
        })?;

        let found = lose(&data_dir)?;
        says_so(&mut host.service, "vdsm-svc", address.path()).await?;
        let another = requests::create_volume(&domain_id, requests::KINDS[2]);
        let another = requests::start_task(proto::task::v1::operation::Verb::CreateVolume(another));
        let answer = host.client.tasks.clone().start_task(another).await;
        let status = answer.err().context("it took work")?;
        let fault = client::Refusal::from(&status).fault;
        ensure(
            status.code() == tonic::Code::Unavailable
                && fault.code == "STORE_UNAVAILABLE"
                && status.message().contains("data directory"),
            || format!("{status:?}"),
        )?;
        ends_with_an_error(&mut host.service).await?;

        let _ = std::fs::remove_dir_all(&data_dir);
        std::fs::rename(&found, &data_dir)?;
        host.service.start(&FailPoints::default()).await?;
        host.serves().await?;
        let request = GetTaskRequest {
            task_id: request.task_id.clone(),
        };
        let task = host.client.tasks.clone().get_task(request).await;
        let task = task?.into_inner().task.context("the task")?;
        ensure(words::task_state(task.state) == "FINISHED", || {
            format!("{task:#?}")
        })?;
        host.service.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_data_directory_is_lost_says_so_and_what_it_held_is_found_again() -> TestResult<()> {
    for lose in WAYS {
        let (mut world, domain_id) = World::furnished().await?;
        let data_dir = world.folder().join("engine");
        let address = keep_address(&data_dir)?;

        let found = lose(&data_dir)?;
        // From the first answer on.
        for _ in 0..20 {
            let request = requests::create_disk(&domain_id, requests::KINDS[2]);
            let answer = world.client.disks.clone().create_disk(request).await;
            let status = answer.err().context("it took work")?;
            ensure(
                status.code() == tonic::Code::Unavailable
                    && status.message().contains(&*data_dir.to_string_lossy()),
                || format!("{status:?}"),
            )?;
        }
        says_so(&mut world.engine, "engine-svc", address.path()).await?;
        let request = requests::create_disk(&domain_id, requests::KINDS[2]);
        let answer = world.client.disks.clone().create_disk(request).await;
        let status = answer.err().context("it took work")?;
        ensure(
            status.code() == tonic::Code::Unavailable && status.message().contains("data directory"),
            || format!("{status:?}"),
        )?;
        ends_with_an_error(&mut world.engine).await?;

        let _ = std::fs::remove_dir_all(&data_dir);
        std::fs::rename(&found, &data_dir)?;
        world.engine.start(&FailPoints::default()).await?;
        let hosts = tests::patience::persist(|| {
            let mut hosts = world.client.hosts.clone();
            async move {
                hosts
                    .list_hosts(proto::engine::v1::ListHostsRequest::default())
                    .await
            }
        });
        ensure(hosts.await?.into_inner().hosts.len() == 1, || {
            "the host is gone".to_owned()
        })?;
        world.engine.stop().await?;
    }
    Ok(())
}

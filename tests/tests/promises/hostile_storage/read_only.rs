//! The file system of the whole root, or of one domain, is read-only: changes are refused with a stable code, reads
//! go on, and so do domains elsewhere; when the file system is writable again, all goes on by itself.

use proto::host::v1::{CreateStorageDomainRequest, FormatStorageDomainRequest};
use tests::bind_mount::BindMount;
use tests::client::Host;
use tests::fail_point::FailPoints;
use tests::failure::{TestResult, ensure};
use tests::ids::fresh;
use tests::lone_host::LoneHost;
use tests::loop_mount::{FileSystem, LoopMount, NoMount};
use tests::storage;

use super::*;

const CODE: &str = "FILE_SYSTEM_READ_ONLY";

pub(super) fn mount() -> TestResult<Option<LoopMount>> {
    match LoopMount::make(FileSystem::Ext4) {
        Ok(mount) => Ok(Some(mount)),
        Err(NoMount::Skip(why)) => {
            crate::skipped("storage on a file system of its own", &why);
            Ok(None)
        }
        Err(NoMount::Failed(failure)) => Err(failure),
    }
}

/// Checks that a volume can be read, and that every change to its domain is refused. On a file system that has become
/// read-only nothing can be synced: then a task that had begun says that it cannot vouch for its undo either.
async fn only_reads(host: &Host, volume: &VolumeAddress, has_fallen: bool) -> TestResult<()> {
    let domain_id = &volume.domain_id;
    let found = volumes(host, volume).await?;
    ensure(found.len() == 1 && found[0].status == "OK", || {
        format!("{found:#?}")
    })?;
    let said = listed(host, domain_id).await?;
    ensure(said.as_deref() == Some(""), || {
        format!("it is listed with {said:?}")
    })?;
    for request in [
        creation(domain_id, 0).0,
        creation(domain_id, 3).0,
        deletion(volume),
    ] {
        let task = host.run(&request).await?;
        let fault = task.fault.clone().unwrap_or_default();
        let undo_code = task.undo_fault.as_ref().map(|fault| fault.code.as_str());
        let ended = match (words::task_state(task.state).as_str(), undo_code) {
            ("RECOVERED", None) => true,
            ("FAILED", Some(CODE)) => has_fallen,
            _ => false,
        };
        let told = fault.code == CODE && fault.message.contains("ead-only");
        ensure(ended && told, || format!("{task:#?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_read_only_is_read_from_the_start_and_written_when_it_can_be() -> TestResult<()> {
    let Some(mount) = mount()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("storage"))?;
    let _bound = BindMount::make(&mount.path(), &folder.path().join("storage"))?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let domain_id = host.client.create_domain().await?;
    let volume = create(&host.client, &domain_id).await?;
    host.service.stop().await?;
    let before = storage::tree(&mount.path());

    mount.make_read_only(true)?;
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    let process = host.service.pid();
    only_reads(&host.client, &volume, false).await?;
    let format = FormatStorageDomainRequest {
        domain_id: domain_id.clone(),
        force: true,
    };
    let (code, sentence) = refusal(host.client.storage.clone().format_storage_domain(format).await)?;
    ensure(code == CODE, || format!("{code}: {sentence}"))?;
    let request = CreateStorageDomainRequest {
        domain_id: fresh(),
        name: "refused".to_owned(),
    };
    let answer = host.client.storage.clone().create_storage_domain(request).await;
    let (code, sentence) = refusal(answer)?;
    ensure(code == CODE, || format!("{code}: {sentence}"))?;

    mount.make_read_only(false)?;
    ensure(storage::tree(&mount.path()) == before, || {
        "something was changed".to_owned()
    })?;
    is_served(&host.client, &domain_id).await?;
    let another = host.client.create_domain().await?;
    is_served(&host.client, &another).await?;
    succeeds(&host.client, &deletion(&volume)).await?;
    ensure(host.service.pid() == process, || {
        "it was started again".to_owned()
    })?;
    host.service.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_falls_read_only_at_work_is_read_and_costs_no_other() -> TestResult<()> {
    let Some(mut mount) = mount()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let domain_id = host.client.create_domain().await?;
    let volume = create(&host.client, &domain_id).await?;
    let elsewhere = host.client.create_domain().await?;
    host.service.stop().await?;
    let there = host.storage_root().join(&domain_id);
    storage::copy(&there, &mount.path().join("domain"))?;
    let bound = BindMount::make(&mount.path().join("domain"), &there)?;
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    is_served(&host.client, &domain_id).await?;

    // A writer's lock is held now, so nobody could make the file system read-only in the regular way.
    mount.sync()?;
    mount.fall_read_only()?;
    only_reads(&host.client, &volume, true).await?;
    is_served(&host.client, &elsewhere).await?;
    host.service.kill().await?;
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    only_reads(&host.client, &volume, true).await?;
    is_served(&host.client, &elsewhere).await?;

    host.service.stop().await?;
    drop(bound);
    mount.mount_anew()?;
    let _bound = BindMount::make(&mount.path().join("domain"), &there)?;
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    let images = storage::images(&host.storage_root(), &domain_id);
    ensure(images.len() == 1 && images.contains(&volume.image_id), || {
        format!("{images:?}")
    })?;
    is_served(&host.client, &domain_id).await?;
    succeeds(&host.client, &deletion(&volume)).await?;
    host.service.stop().await
}

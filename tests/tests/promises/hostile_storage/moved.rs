//! The storage root is mounted over, taken away or replaced while the host runs: the host works in the directory that
//! has the name, and calls nothing a success that was made elsewhere.

use proto::host::v1::{CreateStorageDomainRequest, GetHostInfoRequest};
use tests::bind_mount::BindMount;
use tests::fail_point::FailPoints;
use tests::failure::{TestResult, ensure};
use tests::gate::Gate;
use tests::ids::fresh;
use tests::lone_host::LoneHost;
use tests::storage;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_mounted_over_at_work_and_unmounted_again_is_where_its_name_leads() -> TestResult<()> {
    let Some(mount) = read_only::mount()? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let gate = Gate::open().await?;
    let program = gate.program();
    let mut host = LoneHost::start_with(folder.path(), &["--qemu-img", &program]).await?;
    let beneath = host.client.create_domain().await?;
    let over = mount.path();

    gate.shut("create")?;
    let (request, address) = creation(&beneath, 2);
    host.client.tasks.clone().start_task(request.clone()).await?;
    gate.reached().await?;
    let mounted = BindMount::make(&over, &host.storage_root())?;
    gate.reopen()?;
    let task = host.client.ended(&request.task_id).await?;
    let code = task.fault.clone().unwrap_or_default().code;
    ensure(
        words::task_state(task.state) == "RECOVERED" && code == "STORAGE_REPLACED",
        || format!("{task:#?}"),
    )?;

    // The new root is served as it is.
    ensure(listed(&host.client, &beneath).await?.is_none(), || {
        "it is not there".to_owned()
    })?;
    let sentence = fails(&host.client, &creation(&beneath, 1).0, "DOMAIN_NOT_FOUND").await?;
    ensure(sentence.contains("was replaced"), || sentence.clone())?;
    let above = host.client.create_domain().await?;
    is_served(&host.client, &above).await?;
    ensure(over.join(&above).exists(), || "it is elsewhere".to_owned())?;

    drop(mounted);
    let images = storage::images(&host.storage_root(), &beneath);
    ensure(!images.contains(&address.image_id), || format!("{images:?}"))?;
    is_served(&host.client, &beneath).await?;
    ensure(listed(&host.client, &above).await?.is_none(), || {
        "it is not there".to_owned()
    })?;
    host.service.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_gone_is_said_to_be_and_one_that_is_restored_is_gone_on_with() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let domain_id = host.client.create_domain().await?;
    let volume = create(&host.client, &domain_id).await?;
    let (root, aside) = (host.storage_root(), folder.path().join("aside"));

    std::fs::rename(&root, &aside)?;
    for request in [creation(&domain_id, 0).0, deletion(&volume)] {
        fails(&host.client, &request, "STORAGE_ROOT_GONE").await?;
    }
    let request = CreateStorageDomainRequest {
        domain_id: fresh(),
        name: "refused".to_owned(),
    };
    let (code, _) = refusal(host.client.storage.clone().create_storage_domain(request).await)?;
    ensure(code == "STORAGE_ROOT_GONE", || code)?;
    let answer = host
        .client
        .storage
        .clone()
        .list_storage_domains(ListStorageDomainsRequest::default())
        .await;
    let (code, _) = refusal(answer)?;
    ensure(code == "STORAGE_ROOT_GONE", || code)?;
    ensure(!root.exists(), || "it was made anew".to_owned())?;

    storage::copy(&aside, &root)?;
    is_served(&host.client, &domain_id).await?;
    succeeds(&host.client, &deletion(&volume)).await?;
    let kept = storage::images(&aside, &domain_id);
    ensure(kept.contains(&volume.image_id), || {
        "the old one was touched".to_owned()
    })?;

    // A start goes on with what is there, too.
    host.service.kill().await?;
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    let info = host
        .client
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await;
    ensure(info.is_ok(), || format!("{info:?}"))?;
    is_served(&host.client, &domain_id).await?;
    host.service.stop().await
}

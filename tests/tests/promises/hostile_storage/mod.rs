//! Storage that is damaged, read-only, or somebody else's causes a clear error with a stable code, and the rest goes
//! on.

mod damage;
mod moved;
mod read_only;
mod run_directories;
mod two_hosts;

use proto::host::v1::{
    ListStorageDomainsRequest, ListStorageDomainsResponse, ListVolumesRequest, StartTaskRequest, Volume,
};
use proto::task::v1::VolumeAddress;
use proto::task::v1::operation::Verb;
use tests::client::Host;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::{requests, words};

/// A new volume in a domain: its task, and its address.
fn creation(domain_id: &str, kind: usize) -> (StartTaskRequest, VolumeAddress) {
    let volume = requests::create_volume(domain_id, requests::KINDS[kind]);
    let address = VolumeAddress {
        domain_id: domain_id.to_owned(),
        image_id: volume.image_id.clone(),
        volume_id: volume.volume_id.clone(),
    };
    (requests::start_task(Verb::CreateVolume(volume)), address)
}

fn deletion(address: &VolumeAddress) -> StartTaskRequest {
    let verb = Verb::DeleteImage(requests::delete_image(&address.domain_id, &address.image_id));
    requests::start_task(verb)
}

/// Makes a whole volume.
async fn create(host: &Host, domain_id: &str) -> TestResult<VolumeAddress> {
    let (request, address) = creation(domain_id, 2);
    succeeds(host, &request).await?;
    Ok(address)
}

/// Runs a task to its success.
async fn succeeds(host: &Host, request: &StartTaskRequest) -> TestResult<()> {
    let task = host.run(request).await?;
    ensure(words::task_state(task.state) == "FINISHED", || {
        format!("it did not succeed: {task:#?}")
    })
}

/// Runs a task that must fail with this code and change nothing; returns the message.
async fn fails(host: &Host, request: &StartTaskRequest, code: &str) -> TestResult<String> {
    let task = host.run(request).await?;
    let fault = task.fault.clone().unwrap_or_default();
    ensure(
        words::task_state(task.state) == "RECOVERED" && fault.code == code && !fault.message.is_empty(),
        || format!("it was to fail with {code}: {task:#?}"),
    )?;
    Ok(fault.message)
}

/// Checks that a domain is fully served: read, written and deleted from.
async fn is_served(host: &Host, domain_id: &str) -> TestResult<()> {
    let volume = create(host, domain_id).await?;
    let found = volumes(host, &volume).await?;
    ensure(found.len() == 1 && found[0].fault.is_none(), || {
        format!("{found:#?}")
    })?;
    succeeds(host, &deletion(&volume)).await
}

async fn volumes(host: &Host, address: &VolumeAddress) -> TestResult<Vec<Volume>> {
    let request = ListVolumesRequest {
        domain_id: address.domain_id.clone(),
        image_id: address.image_id.clone(),
        ..Default::default()
    };
    let answer = host.storage.clone().list_volumes(request).await;
    Ok(answer.context("ListVolumes")?.into_inner().volumes)
}

/// The code of a domain's fault in the list; empty if it has none.
async fn listed(host: &Host, domain_id: &str) -> TestResult<Option<String>> {
    let answer = host
        .storage
        .clone()
        .list_storage_domains(ListStorageDomainsRequest::default())
        .await;
    let ListStorageDomainsResponse { domains, .. } = answer.context("ListStorageDomains")?.into_inner();
    let found = domains.into_iter().find(|domain| domain.domain_id == domain_id);
    Ok(found.map(|domain| domain.fault.map(|fault| fault.code).unwrap_or_default()))
}

/// The stable code of a refusal, and its message.
fn refusal<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> TestResult<(String, String)> {
    match answer {
        Ok(answer) => Err(Failure::new(format!("it was not refused: {answer:?}"))),
        Err(status) => {
            let refusal = tests::client::Refusal::from(&status);
            Ok((refusal.fault.code, status.message().to_owned()))
        }
    }
}

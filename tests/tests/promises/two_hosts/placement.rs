//! Each task runs on the host that serves its disk's domain.

use std::collections::BTreeSet;

use proto::convert::operation_from_wire;
use tests::audit::Records;
use tests::client::Refusal;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::{requests, storage};
use tonic::Code;

use super::pair::Pair;

/// The maximum number of a VM's disks.
const MOST_DISKS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_with_disks_on_two_hosts_is_made_and_removed_by_both() -> TestResult<()> {
    let pair = Pair::start().await?;
    let engine = &pair.world.client;
    let domains = [&pair.domain, &pair.second_domain];
    let disks = (0..MOST_DISKS)
        .map(|place| requests::disk(domains[place % 2], requests::KINDS[0]))
        .collect();
    let vm = requests::create_vm("web", disks);
    let created = engine.ask_create_vm(&vm).await?;
    engine.succeeds(&created).await?;
    let one_more = requests::create_disk(&pair.second_domain, requests::KINDS[2]);
    let made = engine.ask_create_disk(&one_more).await?;
    engine.succeeds(&made).await?;
    let copy = requests::copy_disk(&one_more.disk_id, &pair.second_domain, requests::KINDS[0]);
    let copied = engine.ask_copy_disk(&copy).await?;
    engine.succeeds(&copied).await?;
    let records = pair.all_is_well().await?;
    each_task_is_where_its_domain_is(&pair, &records)?;
    let of = |domain: &str| -> BTreeSet<String> {
        let disks = records.disks.iter().filter(|disk| disk.domain_id == domain);
        disks.map(|disk| disk.disk_id.clone()).collect()
    };
    let first = storage::images(&pair.world.storage_root(), &pair.domain);
    let second = storage::images(&pair.second.storage_root(), &pair.second_domain);
    ensure(
        first == of(&pair.domain) && second == of(&pair.second_domain) && first.len() + 2 == second.len(),
        || format!("on the first {first:?}, on the second {second:?}"),
    )?;
    // The limit applies to the VM, wherever its disks are.
    let full = requests::attach_disk(&one_more.disk_id, &vm.vm_id);
    let full = engine.disks.clone().attach_disk(full).await;
    let refusal = Refusal::from(&full.err().context("a VM took one disk too many")?);
    let is_full = (refusal.code, refusal.reason.as_str()) == (Code::FailedPrecondition, "VM_FULL");
    ensure(
        is_full && refusal.fault.message.contains(&MOST_DISKS.to_string()),
        || format!("{refusal:?}"),
    )?;
    let removed = engine.ask_remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    engine.succeeds(&removed).await?;
    let records = pair.all_is_well().await?;
    each_task_is_where_its_domain_is(&pair, &records)?;
    let left: BTreeSet<_> = records.disks.iter().map(|disk| &disk.disk_id).collect();
    ensure(left == BTreeSet::from([&one_more.disk_id, &copy.disk_id]), || {
        format!("{left:?}")
    })
}

#[tokio::test]
async fn a_copy_from_one_host_to_another_is_refused_with_what_to_do() -> TestResult<()> {
    let pair = Pair::start().await?;
    let engine = &pair.world.client;
    let source = requests::create_disk(&pair.domain, requests::KINDS[0]);
    let created = engine.ask_create_disk(&source).await?;
    engine.succeeds(&created).await?;
    let before = pair.all_is_well().await?.without_links();
    for validate_only in [true, false] {
        let mut apart = requests::copy_disk(&source.disk_id, &pair.second_domain, requests::KINDS[2]);
        apart.validate_only = validate_only;
        let answer = engine.disks.clone().copy_disk(apart).await;
        let refusal = Refusal::from(&answer.err().context("a copy between hosts was accepted")?);
        let expected = (
            refusal.code,
            refusal.reason.as_str(),
            refusal.fault.subject.as_str(),
        ) == (Code::FailedPrecondition, "DOMAINS_APART", "domain_id");
        let says_what_to_do = refusal.fault.message.contains(pair.second.id())
            && refusal
                .fault
                .message
                .contains("name a domain of the source's host");
        ensure(expected && says_what_to_do, || format!("{refusal:?}"))?;
    }
    let after = pair.all_is_well().await?.without_links();
    ensure(before == after, || "a refusal left something".to_owned())?;
    // The advice in the refusal works.
    let copy = requests::copy_disk(&source.disk_id, &pair.domain, requests::KINDS[2]);
    let copied = engine.ask_copy_disk(&copy).await?;
    engine.succeeds(&copied).await?;
    pair.all_is_well().await.map(drop)
}

/// Checks that each task of a disk was sent to the host of the disk's domain, and that no other host has heard of it.
fn each_task_is_where_its_domain_is(pair: &Pair, records: &Records) -> TestResult<()> {
    let host_of = |domain_id: &str| match domain_id {
        id if id == pair.domain => pair.world.host_id.as_str(),
        id if id == pair.second_domain => pair.second.id(),
        _ => "nobody",
    };
    ensure(!records.tasks.is_empty(), || "there are no tasks".to_owned())?;
    for task in &records.tasks {
        let operation = operation_from_wire("operation", task.operation.as_ref()).map_err(Failure::new)?;
        let domain_id = operation.domain_id().context("a task without a domain")?;
        let expected = host_of(&domain_id.to_string());
        let knowing: Vec<_> = records
            .host_tasks
            .iter()
            .filter(|(_, tasks)| tasks.iter().any(|known| known.task_id == task.task_id))
            .map(|(host_id, _)| host_id.as_str())
            .collect();
        ensure(task.host_id == expected && knowing == [expected], || {
            format!(
                "the task {} on domain {domain_id} is for {}, and is known to {knowing:?}",
                task.task_id, task.host_id
            )
        })?;
    }
    Ok(())
}

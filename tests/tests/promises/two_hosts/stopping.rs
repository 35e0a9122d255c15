//! A cancellation reaches every part of a tree on every host, whatever each part is doing.

use std::collections::BTreeMap;

use proto::engine::v1::AsyncTask;
use rustix::process::Signal;
use tests::failure::{TestResult, ensure};
use tests::gate::Gate;
use tests::watch::Record;
use tests::{requests, storage, words};

use super::pair::Pair;

/// The number of disks on each host, of which one is being made and the others wait.
const DISKS_A_HOST: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_creation_on_two_hosts_stops_all_parts_of_it_and_waits_for_nobody_else() -> TestResult<()>
{
    let gate = Gate::open().await?;
    let arguments = ["--running-per-domain", "1", "--qemu-img", &gate.program()];
    let pair = Pair::start_both(&arguments, None, &arguments).await?;
    let engine = &pair.world.client;
    gate.shut("create")?;
    let domains = [&pair.domain, &pair.second_domain];
    let disks = (0..2 * DISKS_A_HOST).map(|place| requests::disk(domains[place % 2], requests::KINDS[2]));
    let vm = requests::create_vm("web", disks.collect());
    let created = engine.ask_create_vm(&vm).await?;
    let each_state = |record: &Record<AsyncTask>| {
        let mut counts = BTreeMap::<(String, String), usize>::new();
        for task in record
            .latest()
            .values()
            .filter(|task| task.root_command_id == created)
        {
            let key = (task.host_id.clone(), words::task_state(task.state));
            *counts.entry(key).or_default() += 1;
        }
        counts
    };
    let all = |record: &Record<AsyncTask>, states: &[(&str, &str, usize)]| {
        let counts = each_state(record);
        let expected = states
            .iter()
            .map(|(host, state, count)| (((*host).to_owned(), (*state).to_owned()), *count));
        (counts == expected.collect()).then_some(())
    };
    let (first, second) = (pair.world.host_id.as_str(), pair.second.id());
    let waiting = DISKS_A_HOST - 1;
    let under_way = [
        (first, "RUNNING", 1),
        (first, "QUEUED", waiting),
        (second, "RUNNING", 1),
        (second, "QUEUED", waiting),
    ];
    let tasks = &pair.watchers.engine.tasks;
    tasks
        .until("one running on each host", |record| all(record, &under_way))
        .await?;
    let undo = engine.command(&created).await?.undo;
    ensure(undo.matches("removes the volume").count() == 2, || undo.clone())?;

    pair.second.host.service.signal(Signal::STOP)?;
    engine.cancel(&created).await?;
    // The parts on one host are undone while the other host hangs.
    let halfway = [
        (first, "RECOVERED", DISKS_A_HOST),
        (second, "RUNNING", 1),
        (second, "QUEUED", waiting),
    ];
    tasks
        .until("one host's parts", |record| all(record, &halfway))
        .await?;
    let command = engine.waits_for_host(&created, second).await?;
    ensure(
        words::command_state(command.state) == "COMPENSATING"
            && command.cancel_requested
            && !command.cancelable
            && command.undo.is_empty(),
        || format!("{command:#?}"),
    )?;
    pair.second.host.service.signal(Signal::CONT)?;

    let command = engine.settled(&created).await?;
    let children = command.child_command_ids.len();
    let cancelled = words::command_state(command.state) == "CANCELLED" && command.left_behind.is_empty();
    ensure(cancelled && children == 2 * DISKS_A_HOST, || {
        format!("{command:#?}")
    })?;
    let records = pair.all_is_well().await?;
    for child in &command.child_command_ids {
        let child = records.command(child);
        let state = child.map(|child| (words::command_state(child.state), child.cancel_requested));
        ensure(state == Some(("CANCELLED".to_owned(), true)), || {
            format!("{child:#?}")
        })?;
    }
    ensure(records.vms.is_empty() && records.disks.is_empty(), || {
        format!("{:?} {:?}", records.vms, records.disks)
    })?;
    for (root, domain) in [
        (pair.world.storage_root(), &pair.domain),
        (pair.second.storage_root(), &pair.second_domain),
    ] {
        let images = storage::images(&root, domain);
        ensure(images.is_empty(), || format!("images are left: {images:?}"))?;
    }
    Ok(())
}

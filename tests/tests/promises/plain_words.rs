//! The words of the services: to callers in refusals and plans, and to operators in the log.

use std::process::{Command, Stdio};

use proto::engine::v1::*;
use tests::client::{Refusal, with_metadata};
use tests::failure::{Context as _, TestResult, ensure};
use tests::patience::eventually;
use tests::programs::program;
use tests::{World, requests};

#[test]
fn a_log_filter_that_cannot_be_read_is_refused_in_words() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (host, storage, engine) = (at("host"), at("storage"), at("engine"));
    std::fs::create_dir(&storage)?;
    let host_id = tests::ids::fresh();
    let host = [
        "--data-dir",
        &host,
        "--storage-root",
        &storage,
        "--host-id",
        &host_id,
    ];
    let engine = ["--data-dir", &engine];
    for (name, arguments) in [("vdsm-svc", host.as_slice()), ("engine-svc", engine.as_slice())] {
        for filter in ["[[[", "nonsense=what=ever", "\u{1b}[2J[["] {
            let ended = Command::new(program(name)?)
                .args(arguments)
                .args(["--listen", "127.0.0.1:0"])
                .env("RUST_LOG", filter)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .output()?;
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            ensure(!ended.status.success() && said.contains("the log filter"), || {
                format!("{name} at {filter:?}: {} {said:?}", ended.status)
            })?;
            ensure(!said.contains('\u{1b}'), || format!("{said:?}"))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_all_that_would_be_done_and_is_no_command() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let mut request = requests::create_vm("planned", requests::four_disks(&domain));
    request.validate_only = true;
    let answer = world
        .client
        .vms
        .clone()
        .create_vm(request.clone())
        .await?
        .into_inner();
    let planned = answer.command.context("a plan")?;
    ensure(
        planned.command_id.is_empty() && planned.state() == CommandState::Unspecified,
        || format!("{planned:#?}"),
    )?;
    let plan = planned.plan.context("a plan")?;
    ensure(plan.parts.len() == request.disks.len(), || format!("{plan:#?}"))?;
    for part in &plan.parts {
        let tasks = part
            .plan
            .as_ref()
            .map(|plan| plan.tasks.as_slice())
            .unwrap_or_default();
        let whole = tasks.len() == 1
            && tasks.iter().all(|task| {
                task.operation.is_some()
                    && task.host_id == world.host_id
                    && task.task_id.is_empty()
                    && task.async_state() == AsyncTaskState::Unspecified
            });
        let no_command = part.command_id.is_empty() && part.state() == CommandState::Unspecified;
        ensure(whole && no_command, || format!("{part:#?}"))?;
    }
    let vms = world
        .client
        .vms
        .clone()
        .list_vms(ListVmsRequest::default())
        .await?
        .into_inner()
        .vms;
    ensure(vms.is_empty(), || format!("{vms:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_forgets_to_wait_is_told_what_is_being_made_and_by_whom() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    world.kill_host().await?;
    let request = requests::create_disk(&domain, requests::KINDS[0]);
    let disk_id = request.disk_id.clone();
    let asked = with_metadata(request, &[("x-user", "alice")]);
    let made = world.client.disks.clone().create_disk(asked).await?.into_inner();
    let command_id = made.command.context("a command")?.command_id;
    // The same id in capitals is the same disk.
    for id in [disk_id.clone(), disk_id.to_uppercase()] {
        let refused = world
            .client
            .disks
            .clone()
            .remove_disk(requests::remove_disk(&id))
            .await;
        let refusal = Refusal::from(&refused.err().context("it is refused")?);
        let expected = format!("disk {disk_id} is being made by command {command_id} of alice since ");
        ensure(
            refusal.code == tonic::Code::Aborted
                && refusal.reason == "ENTITY_BUSY"
                && refusal.fault.message.starts_with(&expected),
            || format!("{refusal:?}"),
        )?;
    }
    let unknown = tests::ids::fresh();
    let refused = world
        .client
        .disks
        .clone()
        .remove_disk(requests::remove_disk(&unknown))
        .await;
    let refusal = Refusal::from(&refused.err().context("it is refused")?);
    ensure(
        refusal.code == tonic::Code::NotFound && refusal.fault.message.contains(&unknown),
        || format!("{refusal:?}"),
    )?;
    // The reason why the host is away includes the last cause.
    let host = eventually("the engine to say why the host is away", async || {
        let request = GetHostRequest {
            host_id: world.host_id.to_uppercase(),
        };
        let host = world
            .client
            .hosts
            .clone()
            .get_host(request)
            .await
            .ok()?
            .into_inner()
            .host?;
        let message = host.connection_fault.as_ref()?.message.clone();
        message.contains("refused").then_some(host)
    })
    .await?;
    let held: Vec<_> = host
        .held_by
        .iter()
        .map(|holder| (holder.command_id.as_str(), holder.mode()))
        .collect();
    ensure(held == [(command_id.as_str(), LockMode::Shared)], || {
        format!("{host:#?}")
    })?;
    world.restart_host().await?;
    world.succeeds(&command_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_each_end_once_and_who_cancelled() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let request = requests::create_disk(&domain, requests::KINDS[0]);
    let asked = with_metadata(request, &[("x-user", "alice"), ("x-correlation-id", "c-1")]);
    let made = world.client.disks.clone().create_disk(asked).await?.into_inner();
    let done = made.command.context("a command")?.command_id;
    world.succeeds(&done).await?;
    world.kill_host().await?;
    let request = requests::create_disk(&domain, requests::KINDS[0]);
    let made = world
        .client
        .disks
        .clone()
        .create_disk(request)
        .await?
        .into_inner();
    let cancelled = made.command.context("a command")?.command_id;
    let cancel = CancelCommandRequest {
        command_id: cancelled.clone(),
    };
    let cancel = with_metadata(cancel, &[("x-user", "bob"), ("x-correlation-id", "c-2")]);
    world.client.commands.clone().cancel_command(cancel).await?;
    world.restart_host().await?;
    world.settled(&cancelled).await?;
    let ends = |log: &str, id: &str| {
        let mine = log
            .lines()
            .filter(|line| line.contains("the command has ended") && line.contains(id));
        mine.map(str::to_owned).collect::<Vec<_>>()
    };
    let log = eventually("the log to tell both ends", || {
        let log = world.engine.log_tail(1_000);
        let all = [&done, &cancelled].iter().all(|id| !ends(&log, id).is_empty());
        std::future::ready(all.then_some(log))
    })
    .await?;
    let [end] = &ends(&log, &done)[..] else {
        return ensure(false, || format!("{done}: {log}"));
    };
    for part in [
        "kind=CreateDisk",
        "state=Succeeded",
        "user=\"alice\"",
        "correlation_id=\"c-1\"",
        "duration_ms=",
    ] {
        ensure(end.contains(part), || format!("no {part} in {end}"))?;
    }
    let [end] = &ends(&log, &cancelled)[..] else {
        return ensure(false, || format!("{cancelled}: {log}"));
    };
    ensure(end.contains("state=Cancelled"), || end.clone())?;
    let told = log.lines().any(|line| {
        ["CancelCommand", "bob", "c-2", cancelled.as_str(), "accepted"]
            .iter()
            .all(|part| line.contains(part))
    });
    ensure(told, || format!("who cancelled is not told: {log}"))
}

#[test]
fn settings_are_checked_without_a_service_and_nothing_is_changed() -> TestResult<()> {
    let place = tempfile::tempdir()?;
    let data = place.path().join("data");
    let storage = place.path().join("storage");
    let audit = place.path().join("audit").display().to_string();
    let check = |name: &str, words: &[&str], variables: &[(&str, &str)]| -> TestResult<(bool, String)> {
        let mut command = Command::new(program(name)?);
        command
            .env_clear()
            .envs(variables.iter().copied())
            .arg("--check-config")
            .args(["--data-dir".as_ref(), data.as_os_str()])
            .args(words);
        if name == "vdsm-svc" {
            let host_id = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";
            command
                .args(["--host-id", host_id])
                .args(["--storage-root".as_ref(), storage.as_os_str()]);
        }
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    };
    for (name, variable) in [("engine-svc", "ENGINE_SVC_LISEN"), ("vdsm-svc", "VDSM_SVC_LISEN")] {
        let (is_well, said) = check(name, &["--listen", "127.0.0.1:7"], &[(variable, "x")])?;
        let told = [
            "listen=127.0.0.1:7 (flag)",
            "data-dir=",
            &variable.replace("LISEN", "LISTEN"),
        ];
        ensure(is_well && told.iter().all(|word| said.contains(word)), || {
            said.clone()
        })?;
        let (is_well, said) = check(name, &["--audit-log", &audit], &[])?;
        ensure(is_well && !place.path().join("audit").exists(), || said.clone())?;
        for (words, named) in [
            (&["--listen", "0.0.0.0:7"][..], "--insecure"),
            (&["--metrics-listen", "0.0.0.0:7"], "--metrics-listen"),
            (&["--audit-log", "/no/such/directory/log"], "--audit-log"),
            (&["--audit-log", "/"], "--audit-log"),
            (&["--audit-log-keep", "1"], "--audit-log-keep"),
            (
                &[
                    "--tls-cert",
                    "/no/such",
                    "--tls-key",
                    "/no/such",
                    "--tls-client-ca",
                    "/no/such",
                ],
                "/no/such",
            ),
        ] {
            let (is_well, said) = check(name, words, &[])?;
            ensure(!is_well && said.contains(named), || format!("{words:?}: {said}"))?;
        }
    }
    ensure(!data.exists() && !storage.exists(), || {
        "something was made".to_owned()
    })
}

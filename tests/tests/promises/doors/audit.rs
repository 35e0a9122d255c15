//! The audit log: who asked for which change, from where, and with which outcome.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use proto::engine::v1::host::Connection;
use proto::engine::v1::list_events_request::Filter;
use proto::engine::v1::{
    CancelCommandRequest, CreateVmRequest, Event, EventKind, ListEventsRequest, ListHostsRequest, Severity,
};
use proto::task::v1::operation::Verb;
use serde_json::Value;
use tests::client::{Engine, Host, Refusal, with_metadata};
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::loop_mount::{FileSystem, NoMount};
use tests::metrics::Page;
use tests::patience::eventually;
use tests::programs::program;
use tests::small_disk::SmallDisk;
use tests::tls::{Keys, Knock};
use tests::{World, requests};
use tonic::{Code, Status};

use super::locks;

/// A token as some proxy may ask for: not ours, and none of an audit log.
const SECRET: &str = "Bearer s3cret-of-a-proxy";

fn lines(path: &Path) -> TestResult<Vec<Value>> {
    let text = fs::read_to_string(path)?;
    let read = |line| serde_json::from_str(line).ok().context(format!("a line: {line}"));
    text.lines().map(read).collect()
}

/// The lines of a file, once there are this many that count.
async fn so_many(path: &Path, count: usize, counts: impl Fn(&Value) -> bool) -> TestResult<Vec<Value>> {
    eventually(&format!("{count} lines in {}", path.display()), || {
        let mut found = lines(path).unwrap_or_default();
        found.retain(&counts);
        std::future::ready((found.len() >= count).then_some(found))
    })
    .await
}

/// What a line says under this name; nothing if it has no such name.
fn said<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

/// What matters of lines: RPC, user, role, correlation id, outcome and code.
fn summary(lines: &[Value]) -> Vec<[String; 6]> {
    let names = ["rpc", "user", "role", "correlation_id", "outcome", "code"];
    let of = |line: &Value| {
        names.map(|name| {
            let value = said(line, name);
            value.rsplit('/').next().unwrap_or_default().to_owned()
        })
    };
    lines.iter().map(of).collect()
}

/// Starts both services of a world again, each with an audit log.
async fn with_audit_logs(world: &mut World) -> TestResult<(PathBuf, PathBuf)> {
    let paths = ["engine.jsonl", "host.jsonl"].map(|name| world.folder().join(name));
    world.engine.stop().await?;
    world.host.stop().await?;
    for (service, variable, path) in [
        (&mut world.engine, "ENGINE_SVC_AUDIT_LOG", &paths[0]),
        (&mut world.host, "VDSM_SVC_AUDIT_LOG", &paths[1]),
    ] {
        service.set_variable(variable, &path.display().to_string());
    }
    world.restart_host().await?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    let [engine, host] = paths;
    Ok((engine, host))
}

#[tokio::test]
async fn each_change_and_each_refusal_is_one_line_and_a_permitted_read_is_none() -> TestResult<()> {
    let mut world = World::locked().await?;
    let domain = world.furnish().await?;
    let refused = audited(&world.client, Filter::default(), 100).await;
    let refused = refused
        .err()
        .context("an engine without an audit log lists one")?;
    ensure(Refusal::from(&refused).reason == "AUDIT_LOG_OFF", || {
        format!("{refused:?}")
    })?;
    let (engine_log, host_log) = with_audit_logs(&mut world).await?;
    let pki = &locks(&world)?.pki;
    let address = world.engine.address();
    let come = |keys: &Keys| Ok::<_, tests::Failure>(Engine::over(Knock::with(keys).channel(address)?));
    let admin = come(&locks(&world)?.admin)?;
    let viewer = come(&pki.user("vi", "viewer")?)?;
    let call = |vm: &CreateVmRequest, correlation_id: &str| {
        let metadata = [
            ("x-correlation-id", correlation_id),
            ("x-user", "root"),
            ("authorization", SECRET),
        ];
        with_metadata(vm.clone(), &metadata)
    };
    let vm = requests::create_vm("web", requests::four_disks(&domain));

    // Reads, and the heartbeats of the engine meanwhile.
    for reader in [&admin, &viewer] {
        let list = ListHostsRequest::default();
        reader.hosts.clone().list_hosts(list).await?;
    }
    // A change, the same again, and only its plan.
    let mut vms = admin.vms.clone();
    let accepted = vms.create_vm(call(&vm, "nightly-7")).await?.into_inner();
    let accepted = accepted.command.context("no command")?.command_id;
    vms.create_vm(call(&vm, "nightly-8")).await?;
    let plan = CreateVmRequest {
        validate_only: true,
        ..requests::create_vm("mail", requests::four_disks(&domain))
    };
    vms.create_vm(call(&plan, "plan")).await?;
    world.succeeds(&accepted).await?;
    // Refusals: of bad input, of an entity that is there, of a role, and of somebody without a certificate.
    let unnamed = requests::create_vm("", requests::four_disks(&domain));
    let same_name = requests::create_vm("web", requests::four_disks(&domain));
    for (vm, name, expected) in [
        (&unnamed, "unnamed", Code::InvalidArgument),
        (&same_name, "again", Code::AlreadyExists),
    ] {
        let refused = vms.create_vm(call(vm, name)).await;
        let refused = Refusal::from(&refused.err().context("it was done")?);
        ensure(refused.code == expected, || format!("{name}: {refused:?}"))?;
    }
    let refused = viewer.vms.clone().create_vm(call(&plan, "vi-1")).await;
    let refused = Refusal::from(&refused.err().context("a viewer may")?);
    ensure(refused.code == Code::PermissionDenied, || format!("{refused:?}"))?;
    let nobody = Knock {
        ca: locks(&world)?.admin.ca.clone(),
        shows: None,
    };
    let list = ListHostsRequest::default();
    let nobody = Engine::over(nobody.channel(address)?)
        .hosts
        .list_hosts(list)
        .await;
    ensure(nobody.is_err(), || "nobody was answered".to_owned())?;
    let cancel = CancelCommandRequest {
        command_id: accepted.clone(),
    };
    let late = admin.commands.clone().cancel_command(cancel).await;
    ensure(late.is_err(), || {
        "a command that has ended was cancelled".to_owned()
    })?;

    let told = so_many(&engine_log, 8, |_| true).await?;
    let ended = said(&told[7], "code").to_owned();
    let expected = [
        ["CreateVm", "ann", "admin", "nightly-7", "accepted", ""],
        ["CreateVm", "ann", "admin", "nightly-8", "repeated", ""],
        ["CreateVm", "ann", "admin", "plan", "planned", ""],
        [
            "CreateVm",
            "ann",
            "admin",
            "unnamed",
            "refused",
            "INVALID_ARGUMENT",
        ],
        ["CreateVm", "ann", "admin", "again", "refused", "ENTITY_EXISTS"],
        ["CreateVm", "vi", "viewer", "vi-1", "refused", "NOT_PERMITTED"],
        ["", "", "", "", "refused", "NOT_PERMITTED"],
        ["CancelCommand", "ann", "admin", "", "refused", &ended],
    ];
    ensure(summary(&told) == expected, || format!("{told:#?}"))?;
    let is_whole = told[0]["rpc"] == "vdsm_engine.engine.v1.VmService/CreateVm"
        && told[0]["entity"] == format!("VM {}", vm.vm_id)
        && told[1]["entity"] == told[0]["entity"]
        && told[..2].iter().all(|line| line["command_id"] == accepted)
        && told[3]["subject"] == "name"
        && told[6]["subject"] == "certificate"
        && told[7]["command_id"] == accepted;
    ensure(is_whole, || format!("{told:#?}"))?;
    for line in &told {
        let is_dated = said(line, "time").ends_with('Z');
        ensure(is_dated && said(line, "peer").starts_with("127."), || {
            format!("{line:#}")
        })?;
    }

    can_be_listed(&world, &viewer, &told).await?;
    on_the_host(&world, &host_log).await?;
    for path in [&engine_log, &host_log] {
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        let text = fs::read_to_string(path)?;
        ensure(
            mode == 0o600 && !text.contains(SECRET) && !text.contains("PRIVATE"),
            || format!("{mode:o} {text}"),
        )?;
    }
    Ok(())
}

/// The entries that the engine lists, in pages of this size.
async fn audited(client: &Engine, filter: Filter, page_size: i32) -> Result<Vec<Event>, Status> {
    let mut request = ListEventsRequest {
        filter: Some(Filter {
            kind: EventKind::Audit.into(),
            ..filter
        }),
        page_size,
        page_token: String::new(),
    };
    let mut all = Vec::new();
    loop {
        let page = client.events.clone().list_events(request.clone()).await?;
        let page = page.into_inner();
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// A viewer reads the same entries from the engine, the newest first; they are no events otherwise.
async fn can_be_listed(world: &World, viewer: &Engine, told: &[Value]) -> TestResult<()> {
    let listed = audited(viewer, Filter::default(), 3).await?;
    let newest_first: Vec<&Value> = told.iter().rev().collect();
    ensure(listed.len() == newest_first.len(), || format!("{listed:#?}"))?;
    for (event, line) in listed.iter().zip(newest_first) {
        let audit = event.audit.clone().unwrap_or_default();
        let same = event.kind() == EventKind::Audit
            && event.code == format!("CALL_{}", said(line, "outcome").to_uppercase())
            && event.time.map(|time| time.to_string()) == line["time"].as_str().map(str::to_owned)
            && [
                (&event.user, "user"),
                (&event.correlation_id, "correlation_id"),
                (&event.command_id, "command_id"),
                (&audit.rpc, "rpc"),
                (&audit.role, "role"),
                (&audit.peer, "peer"),
                (&audit.entity, "entity"),
                (&audit.fault_code, "code"),
                (&audit.subject, "subject"),
            ]
            .iter()
            .all(|(shown, name)| *shown == said(line, name));
        ensure(same && !event.message.is_empty(), || {
            format!("{event:#?} {line:#}")
        })?;
    }
    let of = |filter: Filter| audited(viewer, filter, 100);
    let refusals = of(Filter {
        minimum_severity: Severity::Warning.into(),
        ..Filter::default()
    });
    let by_viewer = of(Filter {
        user: "vi".to_owned(),
        ..Filter::default()
    });
    let vm_id = said(&told[0], "entity").trim_start_matches("VM ").to_owned();
    let of_vm = of(Filter {
        entity_id: vm_id,
        ..Filter::default()
    });
    let counts = [refusals.await?.len(), by_viewer.await?.len(), of_vm.await?.len()];
    ensure(counts == [5, 1, 2], || format!("{counts:?}"))?;
    let request = ListEventsRequest::default();
    let others = viewer.events.clone().list_events(request).await?.into_inner();
    let is_event = |event: &Event| event.kind() == EventKind::Unspecified && event.audit.is_none();
    ensure(
        !others.events.is_empty() && others.events.iter().all(is_event),
        || format!("{others:#?}"),
    )?;
    let keys = &locks(world)?.admin;
    let shown = std::process::Command::new(program("taskctl")?)
        .env_clear()
        .args(["--server", &world.engine.address().to_string()])
        .arg("--tls-ca")
        .arg(&keys.ca)
        .arg("--tls-cert")
        .arg(&keys.cert)
        .arg("--tls-key")
        .arg(&keys.key)
        .args(["event", "list", "--audit", "--severity", "warning"])
        .output()?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let refused = text.lines().filter(|line| line.contains("CALL_REFUSED")).count();
    ensure(
        shown.status.success() && refused == 5 && !text.contains("CALL_ACCEPTED"),
        || format!("{text} {shown:?}"),
    )
}

/// The tasks of a VM with four disks are the engine's doing, under its caller's correlation id; a user is refused.
async fn on_the_host(world: &World, log: &Path) -> TestResult<()> {
    let (domain, image) = (fresh(), fresh());
    let task = requests::start_task(Verb::DeleteImage(requests::delete_image(&domain, &image)));
    let task = with_metadata(task, &[("x-correlation-id", "by-hand")]);
    let mut direct = Host::over(Knock::with(&locks(world)?.admin).channel(world.host.address())?);
    let refused = direct.tasks.start_task(task).await;
    ensure(refused.is_err(), || "a user may change a host".to_owned())?;
    let told = so_many(log, 1, |line| said(line, "correlation_id") == "by-hand").await?;
    let expected = [["StartTask", "ann", "admin", "by-hand", "refused", "NOT_PERMITTED"]];
    ensure(summary(&told) == expected, || format!("{told:#?}"))?;
    let started = |line: &Value| said(line, "rpc").ends_with("/StartTask") && line["outcome"] == "accepted";
    let told = so_many(log, 4, started).await?;
    let is_whole = |line: &Value| {
        said(line, "user").starts_with("engine ")
            && said(line, "role") == "engine"
            && said(line, "correlation_id") == "nightly-7"
            && said(line, "entity").starts_with("task ")
    };
    ensure(told.len() == 4 && told.iter().all(is_whole), || {
        format!("{told:#?}")
    })?;
    let rpcs = lines(log)?;
    let looks = |line: &Value| {
        let rpc = said(line, "rpc");
        let rpc = rpc.rsplit('/').next().unwrap_or_default();
        ["Get", "List", "Watch", "Meet", "Probe"]
            .iter()
            .any(|verb| rpc.starts_with(verb))
    };
    ensure(!rpcs.iter().any(looks), || format!("{rpcs:#?}"))
}

/// Makes calls of which each is a line of some hundred bytes: cancellations of commands that do not exist.
async fn cancels_nothing(client: &Engine) -> TestResult<()> {
    let cancel = CancelCommandRequest { command_id: fresh() };
    let refused = client.commands.clone().cancel_command(cancel).await;
    let refused = Refusal::from(
        &refused
            .err()
            .context("a command that does not exist was cancelled")?,
    );
    ensure(refused.code == Code::NotFound, || format!("{refused:?}"))
}

#[tokio::test]
async fn so_many_files_are_kept_as_were_asked_for() -> TestResult<()> {
    let mut world = World::start().await?;
    let log = world.folder().join("audit").join("log");
    fs::create_dir(world.folder().join("audit"))?;
    world
        .engine
        .set_variable("ENGINE_SVC_AUDIT_LOG", &log.display().to_string());
    world.engine.set_variable("ENGINE_SVC_AUDIT_LOG_SIZE", "1");
    world.engine.set_variable("ENGINE_SVC_AUDIT_LOG_KEEP", "3");
    for time in 0..4 {
        world.engine.stop().await?;
        // So nearly a MiB that a line does not fit.
        let mut file = fs::File::options().append(true).create(true).open(&log)?;
        let length = (1 << 20) - file.metadata()?.len() - 10;
        let filler = vec![b'x'; usize::try_from(length).ok().context("a MiB")?];
        file.write_all(&filler)?;
        file.write_all(b"\n")?;
        world.restart_engine().await?;
        cancels_nothing(&world.client).await?;
        let told = so_many(&log, 1, |_| true).await?;
        ensure(told.len() == 1, || format!("{time}: {told:#?}"))?;
    }
    let mut names: Vec<_> = fs::read_dir(world.folder().join("audit"))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    ensure(names == ["log", "log.1", "log.2"], || format!("{names:?}"))?;
    for older in ["log.1", "log.2"] {
        let length = fs::metadata(log.with_file_name(older))?.len();
        ensure(length <= 1 << 20, || format!("{older} has {length} bytes"))?;
    }
    Ok(())
}

/// One of the metrics of a world's engine.
async fn metric(world: &World, name: &str) -> TestResult<f64> {
    let page = Page::of(&world.engine.recipe().data_dir).await?;
    page.sum(name, &[])
}

/// Calls until the engine knows that its audit log cannot be written; how many calls that took.
async fn until_it_fails(world: &World) -> TestResult<u64> {
    let mut calls = 0;
    eventually("the audit log to be not writable", || {
        calls += 1;
        async move {
            cancels_nothing(&world.client).await.ok()?;
            let writable = metric(world, "service_audit_log_writable").await.ok()?;
            (writable == 0.0).then_some(())
        }
    })
    .await?;
    Ok(calls)
}

async fn is_written_again(world: &World, log: &Path, calls: u64) -> TestResult<()> {
    let written = async || {
        let writable = metric(world, "service_audit_log_writable").await.ok()?;
        let entries = metric(world, "service_audit_log_entries_total").await.ok()?;
        (writable == 1.0 && entries as u64 == calls).then_some(())
    };
    eventually("the audit log to be written again", written).await?;
    let told = lines(log)?;
    ensure(told.len() as u64 == calls, || format!("{calls} calls, {told:#?}"))?;
    let lost = metric(world, "service_audit_log_entries_lost_total").await?;
    ensure(lost == 0.0, || format!("{lost} entries are lost"))
}

#[tokio::test]
async fn a_file_in_whose_place_is_something_else_fails_no_call_and_loses_no_line() -> TestResult<()> {
    let mut world = World::start_as(&[], &["--metrics-listen", "0"]).await?;
    let log = world.folder().join("audit.jsonl");
    world.engine.stop().await?;
    world
        .engine
        .set_variable("ENGINE_SVC_AUDIT_LOG", &log.display().to_string());
    world.restart_engine().await?;
    // Somebody removes the file: a new one is made.
    fs::remove_file(&log)?;
    cancels_nothing(&world.client).await?;
    so_many(&log, 1, |_| true).await?;
    fs::remove_file(&log)?;
    fs::create_dir(&log)?;
    let calls = until_it_fails(&world).await?;
    world.engine.says("the audit log cannot be written").await?;
    fs::remove_dir(&log)?;
    let written = async || {
        let writable = metric(&world, "service_audit_log_writable").await.ok()?;
        (writable == 1.0).then_some(())
    };
    eventually("the audit log to be written again", written).await?;
    so_many(&log, usize::try_from(calls).ok().context("a few")?, |_| true).await?;
    // At the end what cannot be written is counted.
    fs::remove_file(&log)?;
    fs::create_dir(&log)?;
    until_it_fails(&world).await?;
    world.engine.stop().await?;
    world
        .engine
        .says("the last entries of the audit log could not be written and are lost")
        .await
}

#[tokio::test]
async fn a_full_disk_fails_no_call_and_loses_no_line() -> TestResult<()> {
    let disk = match SmallDisk::make(FileSystem::Ext4) {
        Ok(disk) => disk,
        Err(NoMount::Skip(why)) => {
            crate::skipped("an audit log on a full disk", &why);
            return Ok(());
        }
        Err(NoMount::Failed(failure)) => return Err(failure),
    };
    let mut world = World::start_as(&[], &["--metrics-listen", "0"]).await?;
    let log = disk.path().join("audit.jsonl");
    world.engine.stop().await?;
    world
        .engine
        .set_variable("ENGINE_SVC_AUDIT_LOG", &log.display().to_string());
    world.restart_engine().await?;
    disk.fill()?;
    let calls = until_it_fails(&world).await?;
    world.engine.says("the audit log cannot be written").await?;
    disk.make_room()?;
    is_written_again(&world, &log, calls).await
}

//! The metrics of a service agree with what it tells its clients, in whatever state it is.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use proto::engine::v1::{
    CommandKind, CommandState, ListCommandsRequest, host::Connection, list_commands_request,
};
use proto::host::v1::ListTasksRequest;
use tests::fail_point::FailPoints;
use tests::failure::{TestResult, ensure};
use tests::gate::Gate;
use tests::metrics::{ADDRESS, Page, address, ask};
use tests::patience::eventually;
use tests::{World, requests, words};

const MEASURED: [&str; 2] = ["--metrics-listen", "0"];

fn engine_dir(world: &World) -> PathBuf {
    world.folder().join("engine")
}

fn host_dir(world: &World) -> PathBuf {
    world.folder().join("host")
}

/// Waits until a figure of a service has this value.
async fn tells(data_dir: &Path, name: &str, labels: &[&str], expected: f64) -> TestResult<()> {
    eventually(&format!("{name} with {labels:?} to be {expected}"), || async {
        let page = Page::of(data_dir).await.ok()?;
        (page.sum(name, labels).ok()? == expected).then_some(())
    })
    .await
}

/// The number of commands of a kind in a state, as clients see it.
async fn listed(world: &World, kind: CommandKind, state: CommandState) -> TestResult<f64> {
    let filter = list_commands_request::Filter {
        states: vec![state.into()],
        kinds: vec![kind.into()],
        ..Default::default()
    };
    let request = ListCommandsRequest {
        filter: Some(filter),
        page_size: 1_000,
        ..ListCommandsRequest::default()
    };
    let answer = world
        .client
        .commands
        .clone()
        .list_commands(request)
        .await?
        .into_inner();
    ensure(answer.next_page_token.is_empty(), || "it is one page".to_owned())?;
    Ok(answer.commands.len() as f64)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_clients_are_told_while_commands_run_and_after() -> TestResult<()> {
    let gate = Gate::open().await?;
    let host = ["--qemu-img", &gate.program(), "--metrics-listen", "0"];
    let mut world = World::start_as(&host, &MEASURED).await?;
    let domain_id = world.furnish().await?;
    let (engine, host) = (engine_dir(&world), host_dir(&world));

    gate.shut("create")?;
    let mut commands = Vec::new();
    for name in ["a", "b"] {
        let disks = vec![requests::disk(&domain_id, requests::KINDS[2])];
        commands.push(world.create_vm(&requests::create_vm(name, disks)).await?);
    }
    gate.reached().await?;
    tells(
        &host,
        "vdsm_tasks",
        &[r#"operation="create_volume""#, r#"state="running""#],
        2.0,
    )
    .await?;
    tells(
        &engine,
        "engine_tasks",
        &[r#"operation="create_volume""#, r#"state="watching""#],
        2.0,
    )
    .await?;
    for (kind, label) in [
        (CommandKind::CreateVm, "create_vm"),
        (CommandKind::CreateImage, "create_image"),
    ] {
        let expected = listed(&world, kind, CommandState::Active).await?;
        ensure(expected == 2.0, || format!("{expected} are at work"))?;
        tells(
            &engine,
            "engine_commands",
            &[&format!(r#"kind="{label}""#), r#"state="active""#],
            expected,
        )
        .await?;
    }
    let page = Page::of(&engine).await?;
    for (name, least) in [
        ("engine_locks_held", 4.0),
        ("engine_lock_holders", 2.0),
        ("engine_host_open_tasks", 2.0),
        ("engine_host_up", 1.0),
        ("service_ready", 1.0),
        ("service_store_usable", 1.0),
        ("service_store_room", 1.0),
        ("service_store_free_bytes", 1.0),
        ("service_connections", 1.0),
    ] {
        let found = page.sum(name, &[])?;
        ensure(found >= least, || {
            format!("{name} is {found}, and should be {least} at least")
        })?;
    }
    ensure(page.sum("engine_lock_oldest_holder_seconds", &[])? > 0.0, || {
        page.text.clone()
    })?;

    gate.reopen()?;
    for command in &commands {
        world.succeeds(command).await?;
    }
    let request = ListTasksRequest::default();
    let tasks = world
        .host_client
        .tasks
        .clone()
        .list_tasks(request)
        .await?
        .into_inner()
        .tasks;
    let finished = |task: &&proto::host::v1::Task| words::task_state(task.state) == "FINISHED";
    let finished = tasks.iter().filter(finished).count() as f64;
    tells(
        &host,
        "vdsm_tasks_ended_total",
        &[r#"outcome="finished""#],
        finished.max(2.0),
    )
    .await?;
    tells(&engine, "engine_tasks_ended_total", &[r#"outcome="done""#], 2.0).await?;
    for kind in [
        CommandKind::CreateVm,
        CommandKind::AddHost,
        CommandKind::CreateStorageDomain,
    ] {
        let expected = listed(&world, kind, CommandState::Succeeded).await?;
        let name = kind
            .as_str_name()
            .trim_start_matches("COMMAND_KIND_")
            .to_ascii_lowercase();
        let labels = [format!(r#"kind="{name}""#), r#"outcome="succeeded""#.to_owned()];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        tells(&engine, "engine_commands_ended_total", &labels, expected).await?;
    }
    for (name, labels) in [
        ("engine_commands", &[][..]),
        ("engine_locks_held", &[]),
        ("engine_lock_oldest_holder_seconds", &[]),
        ("engine_foreign_tasks", &[]),
    ] {
        tells(&engine, name, labels, 0.0).await?;
    }
    tells(
        &engine,
        "engine_command_duration_seconds_count",
        &[r#"kind="create_vm""#],
        2.0,
    )
    .await?;
    tells(&host, "vdsm_task_queue_wait_seconds_count", &[], 2.0).await?;
    tells(&host, "vdsm_storage_domains", &[], 1.0).await?;
    tells(&host, "vdsm_engines_connected", &[], 1.0).await?;
    for dir in [&engine, &host] {
        let page = Page::of(dir).await?;
        page.is_well_formed()?;
        for measured in [
            "service_input_duration_seconds_count",
            "service_commit_duration_seconds_count",
            "service_batch_revisions_sum",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
        ] {
            let found = page.sum(measured, &[])?;
            ensure(found > 0.0, || format!("{measured} is {found}"))?;
        }
    }
    let page = Page::of(&host).await?;
    ensure(
        page.sum("service_watch_delivery_duration_seconds_count", &[])? > 0.0,
        || page.text.clone(),
    )?;

    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    tells(&engine, "engine_host_up", &[], 0.0).await?;
    tells(&engine, "engine_hosts", &[r#"connection="away""#], 1.0).await?;
    world.restart_host().await?;
    world.host_is(Connection::Connected).await?;
    tells(&engine, "engine_host_up", &[], 1.0).await?;
    tells(&engine, "engine_host_connects_total", &[], 2.0).await?;
    // The new start counts present items; ended items were counted by the start before.
    tells(&host, "vdsm_tasks_ended_total", &[], 0.0).await?;
    world.stop().await?;
    for dir in [&engine, &host] {
        ensure(!dir.join(ADDRESS).exists(), || {
            "nothing listens there any more".to_owned()
        })?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_while_the_store_is_lost() -> TestResult<()> {
    let world = World::start_as(&[], &MEASURED).await?;
    let engine = engine_dir(&world);
    let address = address(&engine).await?;
    let figure = |name: &'static str| async move {
        let (_, text) = tokio::task::spawn_blocking(move || ask(address, "GET /metrics"))
            .await
            .ok()?
            .ok()?;
        Page { text }.sum(name, &[]).ok()
    };
    ensure(figure("service_ready").await == Some(1.0), || {
        "it serves".to_owned()
    })?;
    let moved = engine.with_extension("moved");
    std::fs::rename(&engine, &moved)?;
    for name in ["service_ready", "service_store_usable"] {
        eventually(&format!("{name} to tell of the loss"), || async {
            (figure(name).await? == 0.0).then_some(())
        })
        .await?;
    }
    std::fs::rename(&moved, &engine)?;
    for name in ["service_ready", "service_store_usable"] {
        eventually(&format!("{name} to tell that it is back"), || async {
            (figure(name).await? == 1.0).then_some(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_port_for_metrics_keeps_nobody_from_them() -> TestResult<()> {
    let world = World::start_as(&[], &MEASURED).await?;
    let engine = engine_dir(&world);
    let address = address(&engine).await?;
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(address))
        .collect::<Result<_, _>>()?;
    Page::of(&engine).await?.is_well_formed()?;
    drop(silent);
    for (line, expected) in [
        ("GET /", "404"),
        ("GET /metrics/../metrics", "404"),
        ("POST /metrics", "405"),
        ("HEAD /metrics", "200"),
    ] {
        let (status, _) = ask(address, line)?;
        ensure(status.contains(expected), || format!("{line}: {status}"))?;
    }
    let long = format!("GET /{}", "x".repeat(100_000));
    // Refused, or cut off: the request is not served, and nothing of it is kept.
    let served = ask(address, &long).is_ok_and(|(status, _)| status.contains("200"));
    ensure(!served, || "it is too long".to_owned())?;
    Page::of(&engine).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_this_machine_alone() -> TestResult<()> {
    let mut world = World::start().await?;
    ensure(!engine_dir(&world).join(ADDRESS).exists(), || {
        "none are served unless they are asked for".to_owned()
    })?;
    world.engine.stop().await?;
    let mut recipe = world.engine.recipe().clone();
    recipe
        .arguments
        .extend(["--metrics-listen", "0.0.0.0:0"].map(Into::into));
    let mut engine = tests::service::Service::new(recipe);
    engine.spawn(&FailPoints::default())?;
    let status = engine.ended().await?;
    let said = engine.log_tail(5);
    ensure(status.is_some_and(|status| status.code() == Some(1)), || {
        format!("{status:?}: {said}")
    })?;
    ensure(
        said.contains("--metrics-listen 0.0.0.0:0 is not a loopback address"),
        || said,
    )
}

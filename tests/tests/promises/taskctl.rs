//! The operators' command line with real services.

use std::process::Stdio;
use std::time::Duration;

use proto::engine::v1::host::Connection;
use tests::World;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::eventually;
use tests::programs::program;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How a command line ended, and its output.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn taskctl(world: &World, words: &[&str]) -> TestResult<Command> {
    let mut command = Command::new(program("taskctl")?);
    command
        .env_clear()
        .args(["--server", &world.engine.address().to_string()])
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

async fn say(world: &World, words: &[&str]) -> TestResult<Said> {
    let output = taskctl(world, words)?.output().await?;
    Ok(Said {
        code: output.status.code().context("it was killed")?,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command line that must succeed.
async fn done(world: &World, words: &[&str]) -> TestResult<String> {
    let said = say(world, words).await?;
    ensure(said.code == 0, || format!("{words:?}: {said:?}"))?;
    Ok(said.out)
}

/// A follower whose lines are read as they come.
fn follow(world: &World, words: &[&str]) -> TestResult<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = taskctl(world, words)?
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = child.stdout.take().context("no output")?;
    Ok((child, BufReader::new(out).lines()))
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> TestResult<String> {
    let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    line.ok().context("no line in a minute")??.context("it ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_an_operator_by_names_alone() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let domain = domain.as_str();
    let plan = done(
        &world,
        &[
            "vm", "create", "web-01", "--disk", "16M", "--domain", domain, "--plan",
        ],
    )
    .await?;
    ensure(
        plan.contains("nothing was done") && plan.contains("16 MiB"),
        || plan.clone(),
    )?;
    ensure(
        done(&world, &["vm", "list", "-o", "name"]).await?.is_empty(),
        || "a plan made a VM".to_owned(),
    )?;
    let made = done(
        &world,
        &[
            "vm", "create", "web-01", "--disk", "16M", "--disk", "4K", "--domain", domain,
        ],
    )
    .await?;
    ensure(
        made.lines()
            .filter(|line| line.starts_with("  succeeded"))
            .count()
            == 2,
        || made.clone(),
    )?;
    ensure(
        made.lines()
            .last()
            .is_some_and(|line| line.starts_with("done in ")),
        || made.clone(),
    )?;
    let shown = done(&world, &["vm", "show", "web-01"]).await?;
    ensure(shown.contains("16 MiB") && shown.contains("4 KiB"), || {
        shown.clone()
    })?;
    let twice = say(&world, &["vm", "create", "web-01"]).await?;
    ensure(twice.code == 6 && twice.err.contains("ENTITY_EXISTS"), || {
        format!("{twice:?}")
    })?;
    let bad = say(&world, &["vm", "create", "", "-o", "json"]).await?;
    ensure(
        bad.code == 2 && bad.err.contains("name") && bad.out.is_empty(),
        || format!("{bad:?}"),
    )?;
    let listed = done(&world, &["disk", "list", "--vm", "web-01", "-o", "json"]).await?;
    let disks: Vec<serde_json::Value> = listed
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    ensure(disks.len() == 2 && disks[0]["capacityBytes"].is_string(), || {
        listed.clone()
    })?;
    let disk = disks[0]["diskId"].as_str().context("an id")?.to_uppercase();
    done(&world, &["disk", "detach", &disk, "web-01"]).await?;
    done(&world, &["disk", "copy", &disk]).await?;
    done(&world, &["disk", "remove", &disk]).await?;
    let history = done(&world, &["disk", "history", &disk, "-o", "json"]).await?;
    ensure(history.lines().count() >= 3, || history.clone())?;
    done(&world, &["vm", "remove", "web-01"]).await?;
    let gone = say(&world, &["vm", "show", "web-01"]).await?;
    ensure(
        gone.code == 6 && gone.err.contains("no VM named `web-01`"),
        || format!("{gone:?}"),
    )?;
    ensure(done(&world, &["ps"]).await?.contains("nothing runs"), || {
        "something runs".to_owned()
    })?;
    let well = done(&world, &["doctor"]).await?;
    let told = ["all is well", "the engine is of version"];
    ensure(told.iter().all(|word| well.contains(word)), || well.clone())?;
    let version = done(&world, &["version"]).await?;
    let own = env!("CARGO_PKG_VERSION");
    ensure(version.matches(own).count() == 2, || version.clone())?;
    let who = done(&world, &["whoami", "--user", "ann", "-o", "json"]).await?;
    let is_all = who.contains("VmService/CreateVm") && who.contains("HostService/AddHost");
    ensure(
        who.contains("\"ann\"") && !who.contains("authenticated") && is_all,
        || who.clone(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn why_leads_to_the_host_that_is_away_and_a_detached_job_is_found_again() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    let id = done(
        &world,
        &[
            "vm", "create", "web-01", "--disk", "16M", "--domain", &domain, "--detach",
        ],
    )
    .await?;
    let id = id.trim();
    let why = done(&world, &["why", id]).await?;
    ensure(why.contains("create vm") && why.contains("is away for"), || {
        why.clone()
    })?;
    let running = done(&world, &["ps"]).await?;
    ensure(running.contains(id) && running.contains("active"), || {
        running.clone()
    })?;
    let sick = say(&world, &["doctor"]).await?;
    ensure(sick.code == 4 && sick.out.contains("WRONG host"), || {
        format!("{sick:?}")
    })?;
    // Only the host can say whether the command's tasks have begun.
    done(&world, &["job", "cancel", id, "--detach"]).await?;
    world.restart_host().await?;
    let waited = say(&world, &["job", "wait", id]).await?;
    ensure(waited.code == 3 && waited.err.contains("was cancelled"), || {
        format!("{waited:?}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_the_engine_and_shows_no_edge_twice() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let (_watching, mut lines) = follow(&world, &["-o", "json", "task", "watch"])?;
    let mut edges = Vec::new();
    for round in 0..3 {
        done(&world, &["disk", "create", "1M", "--domain", &domain]).await?;
        loop {
            let edge: serde_json::Value =
                serde_json::from_str(&next(&mut lines).await?).map_err(Failure::new)?;
            let is_over = edge["asyncState"] == "ASYNC_TASK_STATE_CLEARED";
            edges.push((edge["taskId"].to_string(), edge["sequence"].to_string()));
            if is_over {
                break;
            }
        }
        if round < 2 {
            world.kill_engine().await?;
            world.restart_engine().await?;
            world.host_is(Connection::Connected).await?;
        }
    }
    let mut distinct = edges.clone();
    distinct.sort();
    distinct.dedup();
    ensure(distinct.len() == edges.len(), || {
        format!("an edge was shown twice: {edges:?}")
    })?;
    let tasks = distinct
        .iter()
        .map(|(task, _)| task)
        .collect::<std::collections::BTreeSet<_>>();
    for task in tasks {
        let count = distinct.iter().filter(|(of, _)| of == task).count();
        ensure(count as u64 >= 3, || {
            format!("task {task} has {count} edges: {edges:?}")
        })?;
    }
    eventually("nothing is left to do", || async {
        say(&world, &["ps"])
            .await
            .ok()
            .filter(|said| said.out.contains("nothing runs"))
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_says_how_to_reach_an_engine_and_a_flag_goes_before_it() -> TestResult<()> {
    let (world, _domain) = World::furnished().await?;
    let home = tempfile::tempdir()?;
    let server = world.engine.address().to_string();
    let run = async |words: &[&str]| -> TestResult<Said> {
        let mut command = Command::new(program("taskctl")?);
        command.env_clear().env("HOME", home.path()).args(words);
        let output = command.stdin(Stdio::null()).output().await?;
        Ok(Said {
            code: output.status.code().context("it was killed")?,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    };
    for words in [
        &["context", "set", "here", "--server", &server, "-o", "name"][..],
        &[
            "context",
            "set",
            "nowhere",
            "--server",
            "127.0.0.1:1",
            "--timeout",
            "1s",
        ],
    ] {
        let said = run(words).await?;
        ensure(said.code == 0, || format!("{said:?}"))?;
    }
    let said = run(&["host", "list"]).await?;
    ensure(said.code == 0 && said.out.starts_with("host/"), || {
        format!("{said:?}")
    })?;
    let said = run(&["host", "list", "--context", "nowhere"]).await?;
    ensure(said.code == 5, || format!("{said:?}"))?;
    let said = run(&["host", "list", "--context", "nowhere", "--server", &server]).await?;
    ensure(said.code == 0 && said.out.contains("CONNECT"), || {
        format!("{said:?}")
    })?;
    let said = run(&["host", "list", "--context", "neither"]).await?;
    ensure(said.code == 2 && said.err.contains("here, nowhere"), || {
        format!("{said:?}")
    })?;
    let said = run(&["context", "list"]).await?;
    ensure(said.out.contains(&server) && said.out.contains('*'), || {
        format!("{said:?}")
    })
}

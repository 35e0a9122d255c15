//! The README's grpcurl session works word for word.

use std::process::{Command, Stdio};

use tests::failure::{Context as _, Failure, Outcome, ensure};
use tests::patience::eventually;
use tests::programs::program;
use tests::readme;

/// Where the session's services listen, as the README says.
const HOST: &str = "127.0.0.1:54321";
const ENGINE: &str = "127.0.0.1:54320";

/// What the session must show somewhere.
const SHOWN: [&str; 8] = [
    "vdsm_engine.engine.v1.VmService",
    "vdsm_engine.host.v1.TaskService",
    "rpc RemoveVm",
    "\"state\": \"COMMAND_STATE_SUCCEEDED\"",
    "\"name\": \"web-01\"",
    "TASK_STATE_FINISHED",
    "ASYNC_TASK_STATE_CLEARED",
    "\"kind\": \"STEP_KIND_FINALIZING\"",
];

/// The text of the session, and the host's id as the text before it gives it.
fn session() -> Outcome<(String, String)> {
    let (before, block) = readme::marked("session")?;
    let host_id = before.rsplit_once("--host-id ").context("no --host-id")?.1;
    let host_id = host_id
        .split_whitespace()
        .next()
        .context("no id after --host-id")?;
    Ok((block, host_id.to_owned()))
}

/// A service as the README starts it. It is killed when this is dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a service that is to listen there. The README's ports are among those that the system gives to anybody's
/// connection, so one may be taken for a while: then it is started again.
async fn start(name: &str, arguments: &[&str], data: &str, address: &str) -> Outcome<Running> {
    let spawn = || -> Outcome<Running> {
        let child = Command::new(program(name)?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.map(Running).map_err(Failure::from)
    };
    let mut running = spawn()?;
    eventually(&format!("{name} at {address}"), || {
        let bound = std::fs::read_to_string(format!("{data}/address")).unwrap_or_default();
        let is_there = bound.trim() == address;
        if matches!(running.0.try_wait(), Ok(Some(_)))
            && let Ok(again) = spawn()
        {
            running = again;
        }
        std::future::ready(is_there.then_some(()))
    })
    .await?;
    Ok(running)
}

#[tokio::test]
async fn the_session_of_the_readme_works_word_for_word() -> Outcome<()> {
    let (text, host_id) = session()?;
    let grpcurl = readme::grpcurl_folder()?;
    let folder = tempfile::Builder::new().prefix("readme-").tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (host_data, storage, engine_data) = (at("vdsm-data"), at("vdsm-storage"), at("engine-data"));
    let host = [
        "--data-dir",
        &host_data,
        "--storage-root",
        &storage,
        "--host-id",
        &host_id,
    ];
    let _host = start("vdsm-svc", &host, &host_data, HOST).await?;
    let engine = ["--data-dir", &engine_data];
    let _engine = start("engine-svc", &engine, &engine_data, ENGINE).await?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("{text}\nwait\n")])
        .env("PATH", format!("{}:{path}", grpcurl.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), || {
        format!("{}\n{shown}\n{complaints}", output.status)
    })?;
    for expected in SHOWN {
        ensure(shown.contains(expected), || {
            format!("{expected} is not in\n{shown}\n{complaints}")
        })?;
    }
    Ok(())
}

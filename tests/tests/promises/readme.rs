//! The README's grpcurl session works word for word.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::eventually;
use tests::programs::program;
use tests::readme;

/// The addresses of the session's services, as in the README.
const HOST: &str = "127.0.0.1:54321";
const ENGINE: &str = "127.0.0.1:54320";

/// Texts that the session must show somewhere.
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

/// The block with which the README starts a service, and the command in it.
fn starting(readme: &str, name: &str) -> TestResult<(String, String)> {
    let line = format!("cargo run --release -p {name} -- ");
    let (before, after) = readme.split_once(&line).context(format!("no {line}"))?;
    let first = before.rsplit_once("```sh\n").context("it is in no block")?.1;
    let rest = after.split_once("\n```").context("the block does not end")?.0;
    Ok((format!("{first}{line}{rest}"), line))
}

/// The data directory that the block names, below a home directory.
fn data_dir(block: &str, home: &Path) -> TestResult<PathBuf> {
    let (_, after) = block.split_once("--data-dir ").context("no --data-dir")?;
    let dir = after.split_whitespace().next().context("no directory")?;
    let below = dir.strip_prefix("~/").context("it is not below the home")?;
    Ok(home.join(below))
}

/// A service as the README starts it. Dropping this kills it.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a service on this address. The README's ports are among those that the system gives to any connection, so a
/// port may be taken for a while: then the service is started again.
async fn start(name: &str, readme: &str, home: &Path, address: &str) -> TestResult<Running> {
    let (block, command) = starting(readme, name)?;
    let data = data_dir(&block, home)?;
    let line = block.replace(&command, &format!("exec {} ", program(name)?.display()));
    let spawn = || -> TestResult<Running> {
        let child = Command::new("bash")
            .args(["-euc", &line])
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.map(Running).map_err(Failure::from)
    };
    let mut running = spawn()?;
    eventually(&format!("{name} at {address}"), || {
        let bound = std::fs::read_to_string(data.join("address")).unwrap_or_default();
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
async fn the_session_of_the_readme_works_word_for_word() -> TestResult<()> {
    let (before, text) = readme::marked("session")?;
    let grpcurl = readme::grpcurl_folder()?;
    let folder = tempfile::Builder::new().prefix("readme-").tempdir()?;
    // Word for word, except for the home directory and for who builds the program.
    let _host = start("vdsm-svc", &before, folder.path(), HOST).await?;
    let _engine = start("engine-svc", &before, folder.path(), ENGINE).await?;
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

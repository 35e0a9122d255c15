//! The README's grpcurl session works word for word.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::failure::{Context as _, TestResult, ensure};
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

/// A network of its own for the session, so that nobody else has its ports or turns them elsewhere: a container that
/// publishes one does. Dropping this gives it up.
struct Network(Option<Child>);

impl Network {
    /// One of its own for root, and that of the machine for everybody else.
    fn new() -> TestResult<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let mut keeper = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-euc",
                "ip link set lo up; echo; exec sleep infinity",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = [0];
        let outcome = keeper.stdout.take().context("piped")?.read_exact(&mut said);
        let network = Self(Some(keeper));
        outcome.context("a network of its own")?;
        Ok(network)
    }

    /// Runs bash there.
    fn bash(&self) -> Command {
        match &self.0 {
            None => Command::new("bash"),
            Some(keeper) => {
                let mut command = Command::new("nsenter");
                command.args(["--net", "--target", &keeper.id().to_string(), "bash"]);
                command
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.0 {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

/// A service as the README starts it. Dropping this kills it.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// How it is, and what all its starts have said.
    fn account(&mut self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{:?}\n{log}", self.child.try_wait())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a service on this address. The README's ports are among those that the system gives to any connection, so in the
/// machine's network a port may be taken for a while: then the service is started again.
async fn start(
    network: &Network,
    name: &str,
    readme: &str,
    home: &Path,
    address: &str,
) -> TestResult<Running> {
    let (block, command) = starting(readme, name)?;
    let data = data_dir(&block, home)?;
    let line = block.replace(&command, &format!("exec {} ", program(name)?.display()));
    let log = home.join(format!("{name}.log"));
    let spawn = || -> TestResult<Running> {
        let said = File::options().create(true).append(true).open(&log)?;
        let child = network
            .bash()
            .args(["-euc", &line])
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()?;
        Ok(Running {
            child,
            log: log.clone(),
        })
    };
    let mut running = spawn()?;
    eventually(&format!("{name} at {address}"), || {
        let bound = std::fs::read_to_string(data.join("address")).unwrap_or_default();
        // What has ended may have been there before.
        let is_there = !running.has_ended() && bound.trim() == address;
        if !is_there
            && running.has_ended()
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
    let network = Network::new()?;
    // Word for word, except for the home directory and for who builds the program.
    let mut host = start(&network, "vdsm-svc", &before, folder.path(), HOST).await?;
    let mut engine = start(&network, "engine-svc", &before, folder.path(), ENGINE).await?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = tokio::process::Command::from(network.bash())
        .args(["-euo", "pipefail", "-c", &format!("{text}\nwait\n")])
        .env("PATH", format!("{}:{path}", grpcurl.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), || {
        let (host, engine) = (host.account(), engine.account());
        format!(
            "{}\n{shown}\n{complaints}\nthe host: {host}\nthe engine: {engine}",
            output.status
        )
    })?;
    for expected in SHOWN {
        ensure(shown.contains(expected), || {
            format!("{expected} is not in\n{shown}\n{complaints}")
        })?;
    }
    Ok(())
}

//! The two containers as `compose.yaml` runs them, in a copy of the tree, so that a deployment's own `.env` stays as
//! it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::eventually;
use tests::programs::workspace;
use tests::readme;

/// A project name of its own, so that volumes of a deployment on this machine are not touched.
const PROJECT: &str = "vdsm-engine-test";

/// A service of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Engine,
    Host,
}

impl Service {
    pub(crate) const ALL: [Self; 2] = [Self::Engine, Self::Host];

    /// The service's name in `compose.yaml`.
    const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Host => "host-1",
        }
    }

    /// The name of the program, which is also the last part of the image's name.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Engine => "engine-svc",
            Self::Host => "vdsm-svc",
        }
    }

    /// The image that `make containers` builds.
    pub(crate) fn image(self, tag: &str) -> String {
        format!("localhost/vdsm-engine/{}:{tag}", self.program())
    }
}

/// Both containers with their volumes; dropping this removes them.
pub(crate) struct Deployment {
    tool: String,
    tree: TempDir,
}

impl Deployment {
    /// Prepares a deployment of which nothing runs yet.
    pub(crate) fn new() -> TestResult<Self> {
        let tool = output(Command::new(workspace().join("scripts/container-tool")))?;
        let tree = tempfile::Builder::new().prefix("containers-").tempdir()?;
        let mut files = Command::new("git");
        files.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
        files.current_dir(workspace());
        for file in output(files)?.lines() {
            let to = tree.path().join(file);
            std::fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
            // A file that is deleted, but not yet for git, cannot be copied.
            if workspace().join(file).is_file() {
                std::fs::copy(workspace().join(file), to).context(file)?;
            }
        }
        // Files that `make setup-containers` fetched serve here too.
        std::fs::create_dir(tree.path().join("target"))?;
        let (fetched, here) = (
            workspace().join("target/compose"),
            tree.path().join("target/compose"),
        );
        if fetched.is_dir() {
            std::os::unix::fs::symlink(std::fs::canonicalize(fetched)?, here)?;
        }
        Ok(Self { tool, tree })
    }

    /// Runs lines of shell in the tree, as a newcomer would.
    pub(crate) fn shell(&self, lines: &str) -> TestResult<String> {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", lines])
            .current_dir(self.tree.path())
            .env("COMPOSE_PROJECT_NAME", PROJECT)
            .env("PATH", path()?);
        output(bash)
    }

    /// Runs the container tool.
    pub(crate) fn tool(&self, arguments: &[&str]) -> TestResult<String> {
        let mut tool = Command::new(&self.tool);
        tool.args(arguments);
        output(tool)
    }

    /// The id of a service's container.
    pub(crate) fn container(&self, service: Service) -> TestResult<String> {
        let filters = [
            format!("project={PROJECT}"),
            format!("service={}", service.name()),
        ];
        let [project, name] = filters.map(|label| format!("label=com.docker.compose.{label}"));
        let ids = self.tool(&["ps", "-aq", "--filter", &project, "--filter", &name])?;
        ensure(ids.lines().count() == 1, || {
            format!("containers of {service:?}: {ids:?}")
        })?;
        Ok(ids)
    }

    /// What the tool prints about a service's container, by a Go template.
    pub(crate) fn inspect(&self, service: Service, template: &str) -> TestResult<String> {
        self.tool(&["inspect", "--format", template, &self.container(service)?])
    }

    /// The container's first process.
    pub(crate) fn process(&self, service: Service) -> TestResult<Process> {
        let pid = self.inspect(service, "{{.State.Pid}}")?;
        let pid = pid.parse().ok().and_then(Pid::from_raw);
        pid.map(Process).context(format!("{service:?} has no process"))
    }

    /// Kills the container with SIGKILL and starts it again by hand, because its restart policy leaves a killed
    /// container alone.
    pub(crate) async fn kill_and_start(&self, service: Service) -> TestResult<()> {
        let container = self.container(service)?;
        self.tool(&["kill", "--signal", "KILL", &container])?;
        eventually("a killed container to be gone", || {
            let running = self.inspect(service, "{{.State.Running}}");
            std::future::ready(running.is_ok_and(|running| running == "false").then_some(()))
        })
        .await?;
        self.tool(&["start", &container])?;
        self.is_healthy(service).await
    }

    /// Replaces a service by one from the images of another tag.
    pub(crate) async fn replace(&self, service: Service, tag: &str) -> TestResult<()> {
        let up = format!(
            "TAG={tag} scripts/compose up -d --force-recreate --no-deps {}",
            service.name()
        );
        self.shell(&up)?;
        self.is_healthy(service).await
    }

    /// Waits until the built-in health check succeeds.
    pub(crate) async fn is_healthy(&self, service: Service) -> TestResult<()> {
        eventually(&format!("{service:?} to be healthy"), || {
            let program = format!("/usr/bin/{}", service.program());
            let asked = self
                .container(service)
                .and_then(|container| self.tool(&["exec", &container, &program, "--health"]));
            std::future::ready(asked.ok())
        })
        .await
        .map(drop)
        .map_err(|failure| Failure::new(format!("{failure}\n{}", self.logs(service))))
    }

    /// The directory of the host's storage on this machine.
    pub(crate) fn storage(&self) -> TestResult<PathBuf> {
        let template = r#"{{range .Mounts}}{{if eq .Destination "/storage"}}{{.Source}}{{end}}{{end}}"#;
        self.inspect(Service::Host, template).map(PathBuf::from)
    }

    /// The last lines that a service logged.
    pub(crate) fn logs(&self, service: Service) -> String {
        let logs = self
            .container(service)
            .and_then(|container| self.shell(&format!("{} logs --tail 30 {container} 2>&1", self.tool)));
        logs.unwrap_or_else(|failure| failure.to_string())
    }

    /// Stops everything and removes containers, network and volumes. Harmless if there are none.
    pub(crate) fn down(&self) -> TestResult<()> {
        // The compose file requires the host's id even for that.
        let id = if self.tree.path().join(".env").is_file() {
            ""
        } else {
            "HOST_1_ID=none "
        };
        self.shell(&format!("{id}scripts/compose down --volumes"))
            .map(drop)
    }

    /// The name of the tool.
    pub(crate) fn tool_name(&self) -> &str {
        &self.tool
    }

    /// The copy of the tree.
    pub(crate) fn tree(&self) -> &Path {
        self.tree.path()
    }
}

/// A process as this machine sees it, whichever container runs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(Pid);

impl Process {
    /// The process's number on this machine.
    pub(crate) fn id(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    pub(crate) fn signal(self, signal: Signal) -> TestResult<()> {
        kill_process(self.0, signal).map_err(|error| Failure::new(format!("signal {signal:?}: {error}")))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Err(failure) = self.down() {
            eprintln!("the containers stay: {failure}");
        }
    }
}

fn path() -> TestResult<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(format!(
        "{}:{path}",
        std::fs::canonicalize(readme::grpcurl_folder()?)?.display()
    ))
}

/// What a program prints, trimmed; a failure contains its error output.
fn output(mut command: Command) -> TestResult<String> {
    let done = command.output().context(format!("{command:?}"))?;
    let shown = String::from_utf8_lossy(&done.stdout);
    ensure(done.status.success(), || {
        let complaints = String::from_utf8_lossy(&done.stderr);
        format!("{command:?}: {}\n{shown}\n{complaints}", done.status)
    })?;
    Ok(shown.trim().to_owned())
}

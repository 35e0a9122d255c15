//! One service: a program that is started, killed and started again, always on the same address.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use proto::codes::UNDECLARED;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::fail_point::FailPoints;
use crate::failure::{Context, Failure, TestResult, ensure};
use crate::patience::eventually;

/// How a service is run.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What people call it.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments besides `--listen` and `--data-dir`.
    pub arguments: Vec<OsString>,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where it listens: with port 0 at first, then where it was.
    pub listen: SocketAddr,
    /// Where its standard error goes; each start adds to it.
    pub log: PathBuf,
}

/// A service that runs, or may run again. It is killed when this is dropped.
#[derive(Debug)]
pub struct Service {
    recipe: Recipe,
    variables: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Service {
    /// One that does not run yet.
    pub fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            variables: Vec::new(),
            child: None,
        }
    }

    /// Has a variable in its environment at each start from now on.
    pub fn set_variable(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.to_owned()));
    }

    /// Has another data directory at each start from now on.
    pub fn moved_to(&mut self, data_dir: PathBuf) {
        self.recipe.data_dir = data_dir;
    }

    /// Starts it and waits until it has written where it listens. If it ended before that, it may be started
    /// again.
    ///
    /// # Errors
    /// When it ends at once; the failure holds the end of its log.
    pub async fn start(&mut self, fail_points: &FailPoints) -> TestResult<SocketAddr> {
        self.spawn(fail_points)?;
        match self.bound().await? {
            Some(address) => Ok(address),
            None => Err(Failure::new(format!(
                "{} ended while it started:\n{}",
                self.recipe.name,
                self.log_tail(20)
            ))),
        }
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn spawn(&mut self, fail_points: &FailPoints) -> TestResult<()> {
        let Recipe { name, data_dir, .. } = &self.recipe;
        std::fs::create_dir_all(data_dir).context(format!("the data directory of {name}"))?;
        match std::fs::remove_file(self.address_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.recipe.log)
            .context(format!("the log of {name}"))?;
        let child = Command::new(&self.recipe.program)
            .arg("--listen")
            .arg(self.recipe.listen.to_string())
            .arg("--data-dir")
            .arg(data_dir)
            .args(&self.recipe.arguments)
            .envs(fail_points.variables())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context(format!("starting {}", self.recipe.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says where it listens; none if it ended first.
    ///
    /// # Errors
    /// When it does neither.
    pub async fn bound(&mut self) -> TestResult<Option<SocketAddr>> {
        let file = self.address_file();
        let name = self.recipe.name;
        let child = self.child.as_mut().context(format!("{name} was not started"))?;
        let mut ended = false;
        let address = eventually(&format!("{name} to say where it listens"), || {
            let address = std::fs::read_to_string(&file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            ended = ended || matches!(child.try_wait(), Ok(Some(_)));
            let seen = match (address, ended) {
                (Some(address), _) => Some(Some(address)),
                (None, true) => Some(None),
                (None, false) => None,
            };
            std::future::ready(seen)
        })
        .await?;
        if let Some(address) = address {
            self.recipe.listen = address;
        }
        Ok(address)
    }

    /// SIGKILL, and waits until it is gone. One that does not run is left as it is.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> TestResult<()> {
        if let Some(mut child) = self.child.take() {
            child
                .kill()
                .await
                .context(format!("killing {}", self.recipe.name))?;
        }
        Ok(())
    }

    /// SIGTERM, and waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not end with status 0.
    pub async fn stop(&mut self) -> TestResult<()> {
        self.signal(Signal::TERM)?;
        let Some(status) = self.ended().await? else {
            return Ok(());
        };
        if status.success() {
            return Ok(());
        }
        let (name, tail) = (self.recipe.name, self.log_tail(20));
        Err(Failure::new(format!(
            "{name} ended with {status} at SIGTERM:\n{tail}"
        )))
    }

    /// Sends a signal, if it runs.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, signal: Signal) -> TestResult<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        kill_process(pid, signal).map_err(|error| Failure::new(format!("signal {signal:?}: {error}")))
    }

    /// Waits until it ends by itself; none if it did not run.
    ///
    /// # Errors
    /// When it does not within reason.
    pub async fn ended(&mut self) -> TestResult<Option<ExitStatus>> {
        let Some(child) = self.child.as_mut() else {
            return Ok(None);
        };
        let what = format!("{} to end", self.recipe.name);
        let status = eventually(&what, || std::future::ready(child.try_wait().ok().flatten())).await?;
        self.child = None;
        Ok(Some(status))
    }

    /// How it ended, if it has ended since it was last started; then it no longer counts as running.
    pub fn take_end(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Whether it has ended since it was last started, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        let status = self.child.as_mut().map(|child| child.try_wait());
        matches!(status, Some(Ok(Some(_))))
    }

    /// Waits until it has killed itself at its fail point.
    ///
    /// # Errors
    /// When it does not, or ends otherwise.
    pub async fn killed_itself(&mut self) -> TestResult<()> {
        let status = self.ended().await.context("the boundary was never hit")?;
        let signal = status.and_then(|status| status.signal());
        ensure(signal == Some(Signal::KILL.as_raw()), || {
            format!(
                "{} ended with {status:?}:\n{}",
                self.recipe.name,
                self.log_tail(20)
            )
        })
    }

    /// Its process.
    pub fn pid(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    /// Where it listens: known once it was started.
    pub fn address(&self) -> SocketAddr {
        self.recipe.listen
    }

    /// How it is run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Waits until its log says this.
    ///
    /// # Errors
    /// When it does not within reason; with the end of the log.
    pub async fn says(&self, text: &str) -> TestResult<()> {
        let what = format!("{} to say {text:?}", self.recipe.name);
        let said = eventually(&what, || {
            std::future::ready(self.log_tail(usize::MAX).contains(text).then_some(()))
        });
        said.await
            .map_err(|failure| Failure::new(format!("{failure}:\n{}", self.log_tail(30))))
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        // A pipe would be read until its writers have gone.
        let is_file = self.recipe.log.is_file();
        let text = is_file.then(|| std::fs::read_to_string(&self.recipe.log).unwrap_or_default());
        let text = text.unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The first line of its log that tells of an answer which the contract does not have.
    pub fn undeclared(&self) -> Option<String> {
        let log = self.log_tail(usize::MAX);
        log.lines()
            .find(|line| line.contains(UNDECLARED))
            .map(str::to_owned)
    }

    /// Where it says on which address it listens.
    pub fn address_file(&self) -> PathBuf {
        self.recipe.data_dir.join("address")
    }
}

impl Drop for Service {
    /// Whatever a test is about: it fails where the contract does not name an answer that was given.
    fn drop(&mut self) {
        if let Some(line) = self.undeclared().filter(|_| !std::thread::panicking()) {
            panic!(
                "{} answered what proto::codes does not have: {line}",
                self.recipe.name
            );
        }
    }
}

//! One run of a scenario, with or without a kill.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use proto::engine::v1::Command;
use tests::audit::{self, Records};
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::eventually;
use tests::watch::Watchers;
use tokio::task::JoinHandle;

use super::slot::{Slot, remove};

/// SIGKILL in an exit status.
const SIGKILL: i32 = 9;

/// How often the test looks at the two processes.
const GLANCE: Duration = Duration::from_millis(2);

/// The last boundaries of a run come after the last change that a client can see. A passage that has not come within
/// this time is none of this run.
const AFTERMATH: Duration = Duration::from_millis(750);

/// The victim of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Victim {
    /// The host kills itself at its boundary.
    Host,
    /// The engine kills itself at its boundary.
    Engine,
}

/// A kill to be survived.
#[derive(Debug, Clone)]
pub(super) struct Kill {
    /// Who passes the boundary.
    pub(super) victim: Victim,
    /// The boundary of the kill.
    pub(super) boundary: Boundary,
    /// Whether the other service is killed at the same moment.
    pub(super) both: bool,
    /// The boundary at which the victim is killed once more during its recovery.
    pub(super) again: Option<Boundary>,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { victim, boundary, .. } = self;
        write!(f, "{victim:?} {boundary}")?;
        if self.both {
            f.write_str(" both")?;
        }
        match &self.again {
            Some(again) => write!(f, " then {again}"),
            None => Ok(()),
        }
    }
}

/// The files with the services' passages.
#[derive(Debug, Clone)]
pub(super) struct Traces {
    /// The host's.
    pub(super) host: PathBuf,
    /// The engine's.
    pub(super) engine: PathBuf,
    /// The victim's passages up to the kill.
    pub(super) victim: PathBuf,
}

impl Slot {
    /// The files with the passages.
    pub(super) fn traces(&self) -> Traces {
        let folder = self.world.folder();
        Traces {
            host: folder.join("host.trace"),
            engine: folder.join("engine.trace"),
            victim: folder.join("victim.trace"),
        }
    }

    /// Runs the scenario undisturbed; afterwards [`Slot::traces`] has the passages.
    pub(super) async fn undisturbed(&mut self) -> TestResult<()> {
        let traces = self.traces();
        let host = FailPoints::tracing(traces.host);
        let engine = FailPoints::tracing(traces.engine);
        self.run(None, &host, &engine).await.map(drop)
    }

    /// Runs the scenario with a kill; afterwards [`Slot::traces`] has the passages after the kill. Returns false if
    /// the run ended without passing the boundary, which may depend on timing. Then the run was undisturbed, and the
    /// victim's trace has its passages.
    pub(super) async fn survive(&mut self, kill: &Kill) -> TestResult<bool> {
        let calm = FailPoints {
            one_by_one: true,
            ..FailPoints::default()
        };
        let killing = FailPoints {
            trace: Some(self.traces().victim),
            ..FailPoints::killing(&kill.boundary)
        };
        let outcome = match kill.victim {
            Victim::Host => self.run(Some(kill), &killing, &calm).await,
            Victim::Engine => self.run(Some(kill), &calm, &killing).await,
        };
        outcome.map_err(|failure| self.with_logs(kill, &failure))
    }

    async fn run(&mut self, kill: Option<&Kill>, host: &FailPoints, engine: &FailPoints) -> TestResult<bool> {
        self.world.kill_engine().await?;
        self.world.kill_host().await?;
        // A child of the last run would be an orphan at work in this run's storage.
        eventually("what the last run left to end", || {
            std::future::ready(self.world.processes().is_empty().then_some(()))
        })
        .await?;
        self.reset()?;
        let Traces {
            host: of_host,
            engine: of_engine,
            victim,
        } = self.traces();
        for trace in [of_host, of_engine, victim] {
            remove(&trace)?;
        }
        self.world.host.spawn(host)?;
        self.world.engine.spawn(engine)?;
        let watchers = Watchers::start(&self.world.client, &self.world.host_client);
        let mut deaths = Deaths::new(kill.cloned());
        let driver = tokio::spawn(drive(self.prepared.clone(), self.world.view()));
        let (command, _) = self.supervise(driver, &mut deaths).await?;
        let records = self.aftermath(&mut deaths).await?;
        audit::assert_no_locks(&records)?;
        if self.prepared.has_a_stranger() {
            self.prepared.judge(&command, &records)?;
            std::fs::remove_dir_all(self.prepared.in_the_way())?;
        }
        audit::assert_agreement(&self.world.view(), &records, &watchers).await?;
        if !self.prepared.has_a_stranger() {
            self.prepared.judge(&command, &records)?;
        }
        Ok(!deaths.expected())
    }

    /// Restarts a service that dies, until the scenario is over.
    async fn supervise<T>(
        &mut self,
        driver: JoinHandle<TestResult<T>>,
        deaths: &mut Deaths,
    ) -> TestResult<T> {
        while !driver.is_finished() {
            self.tend(deaths).await?;
            tokio::time::sleep(GLANCE).await;
        }
        driver.await.map_err(Failure::new)?
    }

    /// Waits for a death that comes late, and reads everything once both services run and are at rest.
    async fn aftermath(&mut self, deaths: &mut Deaths) -> TestResult<Records> {
        let end = tokio::time::Instant::now() + AFTERMATH;
        while deaths.expected() && tokio::time::Instant::now() < end {
            self.tend(deaths).await?;
            tokio::time::sleep(GLANCE).await;
        }
        let view = self.world.view();
        let rest = tokio::spawn(async move { audit::at_rest(&view).await });
        self.supervise(rest, deaths).await
    }

    /// Checks whether a service has died, and restarts it.
    async fn tend(&mut self, deaths: &mut Deaths) -> TestResult<()> {
        let traces = self.traces();
        if let Some(status) = self.world.host.take_end() {
            let next = deaths.of(Victim::Host, status)?;
            if deaths.take_both() {
                self.world.kill_engine().await?;
                self.world.engine.spawn(&FailPoints::default())?;
            }
            let trace = Some(traces.host.clone());
            self.world.host.spawn(&FailPoints {
                kill: next,
                trace,
                one_by_one: true,
            })?;
        }
        if let Some(status) = self.world.engine.take_end() {
            let next = deaths.of(Victim::Engine, status)?;
            if deaths.take_both() {
                self.world.kill_host().await?;
                self.world.host.spawn(&FailPoints::default())?;
            }
            let trace = Some(traces.engine);
            self.world.engine.spawn(&FailPoints {
                kill: next,
                trace,
                one_by_one: true,
            })?;
        }
        Ok(())
    }

    fn with_logs(&self, kill: &Kill, failure: &Failure) -> Failure {
        let (host, engine) = (self.world.host.log_tail(12), self.world.engine.log_tail(12));
        Failure::new(format!(
            "{kill}: {failure}\n— host —\n{host}\n— engine —\n{engine}"
        ))
    }
}

/// Requests the command, waits for its end, and for the services to be at rest.
async fn drive(prepared: super::scenario::Prepared, view: audit::View) -> TestResult<(Command, Records)> {
    let command_id = prepared.act(&view.engine).await?;
    // Nobody has to help: records and storage decide what a kill has left.
    let command = view.engine.settled(&command_id).await?;
    let records = audit::at_rest(&view).await?;
    Ok((command, records))
}

/// The deaths that are still to come. Any other death is a failure.
#[derive(Debug)]
struct Deaths {
    kill: Option<Kill>,
    first: bool,
    again: Option<Boundary>,
    both: bool,
}

impl Deaths {
    fn new(kill: Option<Kill>) -> Self {
        Self {
            first: kill.is_some(),
            again: kill.as_ref().and_then(|kill| kill.again.clone()),
            both: kill.as_ref().is_some_and(|kill| kill.both),
            kill,
        }
    }

    /// Whether a death is still to come.
    fn expected(&self) -> bool {
        self.first || self.again.is_some()
    }

    /// Records a death; returns the boundary at which the same service is to die next.
    fn of(&mut self, victim: Victim, status: ExitStatus) -> TestResult<Option<Boundary>> {
        let expected = self.kill.as_ref().is_some_and(|kill| kill.victim == victim) && self.expected();
        ensure(expected && status.signal() == Some(SIGKILL), || {
            format!("{victim:?} ended by itself with {status}")
        })?;
        if self.first {
            self.first = false;
            return Ok(self.again.clone());
        }
        self.again.take().context("died once too often")?;
        Ok(None)
    }

    /// Whether the other service is to die with this one.
    fn take_both(&mut self) -> bool {
        std::mem::take(&mut self.both)
    }
}

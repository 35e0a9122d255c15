//! All watches of a world at once.

use proto::{engine::v1 as engine, host::v1 as vdsm};

use super::check::violations;
use super::recorder::Recorder;
use super::rpc::{Commands, Events, HostTasks, Jobs, Tasks};
use crate::client::{Engine, Host};
use crate::failure::{TestResult, ensure};

/// The four Watch RPCs of an engine.
#[derive(Debug)]
pub struct EngineWatchers {
    /// `WatchCommands`.
    pub commands: Recorder<engine::Command>,
    /// `WatchTasks`.
    pub tasks: Recorder<engine::AsyncTask>,
    /// `WatchJobs`.
    pub jobs: Recorder<engine::Job>,
    /// `WatchEvents`.
    pub events: Recorder<engine::Event>,
}

impl EngineWatchers {
    /// Watches from a snapshot on.
    pub fn start(client: &Engine) -> Self {
        let channel = || client.channel.clone();
        Self {
            commands: Recorder::start::<Commands>(channel()),
            tasks: Recorder::start::<Tasks>(channel()),
            jobs: Recorder::start::<Jobs>(channel()),
            events: Recorder::start::<Events>(channel()),
        }
    }

    /// Waits until each watch has opened so many streams, the first one counted, and can be resumed.
    ///
    /// # Errors
    /// When they do not.
    pub async fn open(&self, streams: usize) -> TestResult<()> {
        self.commands.opens(streams).await?;
        self.tasks.opens(streams).await?;
        self.jobs.opens(streams).await?;
        self.events.opens(streams).await
    }

    /// What was told against what is promised; empty where all is well.
    pub fn violations(&self) -> Vec<String> {
        let mut found = violations(&self.commands.record());
        found.extend(violations(&self.tasks.record()));
        found.extend(violations(&self.jobs.record()));
        found.extend(violations(&self.events.record()));
        found
    }
}

/// The four Watch RPCs of an engine and the one of each of its hosts.
#[derive(Debug)]
pub struct Watchers {
    /// The engine's.
    pub engine: EngineWatchers,
    /// The host's.
    pub host: Recorder<vdsm::Task>,
    /// Those of further hosts.
    pub others: Vec<Recorder<vdsm::Task>>,
}

impl Watchers {
    /// Watches from a snapshot on.
    pub fn start(engine: &Engine, host: &Host) -> Self {
        Self {
            engine: EngineWatchers::start(engine),
            host: Recorder::start::<HostTasks>(host.channel.clone()),
            others: Vec::new(),
        }
    }

    /// The same, with one more host.
    #[must_use]
    pub fn and(mut self, host: &Host) -> Self {
        self.others
            .push(Recorder::start::<HostTasks>(host.channel.clone()));
        self
    }

    /// Waits until the watches of tasks are open: each edge from then on is told by itself.
    ///
    /// # Errors
    /// When they do not open.
    pub async fn tell_edges(&self) -> TestResult<()> {
        let what = "a watch of tasks to open";
        self.engine
            .tasks
            .until(what, |record| record.token().map(drop))
            .await?;
        self.host.until(what, |record| record.token().map(drop)).await
    }

    /// Checks all that was told against what is promised.
    ///
    /// # Errors
    /// Naming every violation.
    pub fn check(&self) -> TestResult<()> {
        let mut found = self.engine.violations();
        for host in std::iter::once(&self.host).chain(&self.others) {
            found.extend(violations(&host.record()));
        }
        ensure(found.is_empty(), || {
            format!(
                "the watch streams broke their promises:\n  {}",
                found.join("\n  ")
            )
        })
    }
}

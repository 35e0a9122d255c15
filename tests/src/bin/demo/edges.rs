//! State edges as the watch streams bring them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proto::engine::v1::{AsyncTask, AsyncTaskState, Command};
use tests::TestResult;
use tests::client::Engine;
use tests::watch::{Arrived, Commands, Frame, Recorder, Tasks};
use tests::words;
use tokio::sync::mpsc;

/// One edge of a command or of a task.
#[derive(Debug, Clone)]
pub(crate) enum Edge {
    /// A command changed its state.
    Command {
        /// As it is now.
        command: Box<Command>,
        /// The state before; empty for a new one.
        from: String,
        /// From the engine's commit to here.
        delay: Option<Duration>,
    },
    /// A task changed its state on the host, or for the engine.
    Task {
        /// As it is now.
        task: Box<AsyncTask>,
        /// The host's state before; empty where it had reported none.
        from: String,
        /// The engine's state before; empty for a new one.
        async_from: String,
        /// From the host's commit to here; only for what the host did.
        delay: Option<Duration>,
    },
}

impl Edge {
    /// The command tree that it is of.
    pub(crate) fn root(&self) -> &str {
        match self {
            Self::Command { command, .. } => &command.root_command_id,
            Self::Task { task, .. } => &task.root_command_id,
        }
    }

    /// A task of this edge has just begun to run.
    pub(crate) fn begins_to_run(&self) -> bool {
        matches!(self, Self::Task { task, from, .. }
            if from != "RUNNING" && words::task_state(task.state) == "RUNNING")
    }
}

/// The edges of all commands and tasks, in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Edges {
    receiver: mpsc::UnboundedReceiver<Edge>,
    /// Both streams end with these.
    _streams: (Recorder<Command>, Recorder<AsyncTask>),
}

impl Edges {
    /// Watches from now on: when this returns, nothing that happens later is missed.
    pub(crate) async fn watch(engine: &Engine) -> TestResult<Self> {
        // Unbounded: the demo has a few hundred edges, and printing must not slow the streams.
        let (to, receiver) = mpsc::unbounded_channel();
        let commands = Recorder::tapped::<Commands>(engine.channel.clone(), command_edges(to.clone()));
        let tasks = Recorder::tapped::<Tasks>(engine.channel.clone(), task_edges(to));
        commands
            .until("its snapshot", |record| record.token().map(drop))
            .await?;
        tasks
            .until("its snapshot", |record| record.token().map(drop))
            .await?;
        Ok(Self {
            receiver,
            _streams: (commands, tasks),
        })
    }

    /// The next edge.
    pub(crate) async fn next(&mut self) -> Option<Edge> {
        self.receiver.recv().await
    }
}

fn command_edges(to: mpsc::UnboundedSender<Edge>) -> impl FnMut(&Arrived<Command>) {
    let mut states = BTreeMap::new();
    move |arrived| {
        let Frame::Changes(changes) = &arrived.frame else {
            return;
        };
        for command in &changes.items {
            let state = words::command_state(command.state);
            let from = states
                .insert(command.command_id.clone(), state.clone())
                .unwrap_or_default();
            if from != state {
                let delay = changes.commit_time.and_then(|time| since(&time, arrived.at));
                // The demo may be over already.
                let _ = to.send(Edge::Command {
                    command: Box::new(command.clone()),
                    from,
                    delay,
                });
            }
        }
    }
}

fn task_edges(to: mpsc::UnboundedSender<Edge>) -> impl FnMut(&Arrived<AsyncTask>) {
    let mut states = BTreeMap::new();
    move |arrived| {
        let Frame::Changes(changes) = &arrived.frame else {
            return;
        };
        for task in &changes.items {
            let now = (word(task.state), words::async_state(task.async_state));
            let (from, async_from) = states
                .insert(task.task_id.clone(), now.clone())
                .unwrap_or_default();
            if (&from, &async_from) != (&now.0, &now.1) {
                let by_host = task.host_commit_time.filter(|_| from != now.0);
                let delay = by_host.and_then(|time| since(&time, arrived.at));
                let _ = to.send(Edge::Task {
                    task: Box::new(task.clone()),
                    from,
                    async_from,
                    delay,
                });
            }
        }
    }
}

/// A task's state; empty where the host has reported none.
pub(crate) fn word(state: i32) -> String {
    if state == 0 {
        String::new()
    } else {
        words::task_state(state)
    }
}

/// Whether nothing more will be told of this task.
pub(crate) fn is_cleared(task: &AsyncTask) -> bool {
    task.async_state == i32::from(AsyncTaskState::Cleared)
}

/// From a commit to an arrival; none where the clock was set in between.
fn since(time: &prost_types::Timestamp, at: SystemTime) -> Option<Duration> {
    at.duration_since(SystemTime::try_from(*time).ok()?).ok()
}

//! What happened, in order: every commit of every store, every fault, every answer. The same seed has the same.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::id::StoreId;
use common::revision::{Revision, Start};
use doubles::memory::{Disk, MemoryStore};
use prost::Message;
use proto::encode;
use proto::engine::v1::{AsyncTask, Command};
use proto::host::v1::Task as HostTask;
use proto::store::v1::{EngineHistory, HostHistory};
use proto::task::v1::TaskState;
use runtime::chance;
use store::{Commit, Identity, Reader, Recorded, StartSpan, Store, StoreError};

use crate::wear::{Failure, Wear};

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    lines: Vec<String>,
    /// By store and task: a store that is lost takes with it that a task ran.
    runs: BTreeMap<(StoreId, String), Run>,
}

/// How often a task began to run.
#[derive(Default)]
struct Run {
    times: u32,
    /// As last recorded.
    state: i32,
}

impl Trace {
    /// Adds a line of what a node does, with the time.
    pub(crate) fn note(&self, line: impl std::fmt::Display) {
        self.note_at(turmoil::sim_elapsed().unwrap_or_default(), line);
    }

    /// Adds a line of what is done to the nodes.
    pub(crate) fn note_at(&self, at: Duration, line: impl std::fmt::Display) {
        let line = format!("{:>9.3} {line}", at.as_secs_f64());
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.with(|inner| inner.lines.push(line));
    }

    /// A number that two traces share only if they are the same.
    pub(crate) fn hash(&self) -> u64 {
        self.with(|inner| {
            let mut hasher = DefaultHasher::new();
            inner.lines.hash(&mut hasher);
            hasher.finish()
        })
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.with(|inner| inner.lines.clone())
    }

    /// Whether one line holds all these words.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        let all = |line: &String| words.iter().all(|word| line.contains(word));
        self.with(|inner| inner.lines.iter().any(all))
    }

    /// The tasks that ran more than once.
    pub(crate) fn ran_again(&self) -> Vec<String> {
        self.with(|inner| {
            let again = inner.runs.iter().filter(|(_, run)| run.times > 1);
            again
                .map(|((_, task_id), run)| format!("{task_id} ran {} times", run.times))
                .collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A store that traces what is committed to it.
pub(crate) struct TracedStore {
    store: Arc<MemoryStore>,
    node: String,
    trace: Trace,
    wear: Wear,
    /// A process that cannot even begin is another thing than one whose disk fails.
    begun: AtomicBool,
}

impl TracedStore {
    /// Opens a disk, as a start of a node.
    pub(crate) fn open(disk: Disk, node: &str, trace: Trace, wear: Wear) -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::open_as(disk, Start(chance::number())),
            node: node.to_owned(),
            trace,
            wear,
            begun: AtomicBool::new(false),
        })
    }

    fn trace(&self, commit: &Commit) {
        let what = match self.node.as_str() {
            "engine" => {
                EngineHistory::decode(commit.history.as_slice()).map(|history| engine_words(&history))
            }
            _ => HostHistory::decode(commit.history.as_slice()).map(|history| self.host_words(&history)),
        };
        let what = what.unwrap_or_else(|error| error.to_string());
        let (node, revision, time) = (&self.node, commit.revision.0, commit.time.0);
        self.trace.note(format!("{node} r{revision} at {time}: {what}"));
    }

    fn host_words(&self, history: &HostHistory) -> String {
        let running = i32::from(TaskState::Running);
        let store_id = self.store.identity().store_id;
        let words = shown::<HostTask>(&history.tasks).into_iter().map(|task| {
            self.trace.with(|inner| {
                let run = inner.runs.entry((store_id, task.task_id.clone())).or_default();
                // A running task may change and still run.
                run.times += u32::from(task.state == running && run.state != running);
                run.state = task.state;
            });
            format!(
                "{} {}#{}",
                task.task_id,
                tests::words::task_state(task.state),
                task.sequence
            )
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

fn shown<M: Message + Default>(encoded: &[Bytes]) -> Vec<M> {
    encode::read(encoded).expect("a service shows what is no message")
}

fn engine_words(history: &EngineHistory) -> String {
    let commands = shown::<Command>(&history.commands).into_iter().map(|command| {
        let (kind, state) = (
            tests::words::command_kind(command.kind),
            tests::words::command_state(command.state),
        );
        format!("{kind} {} {state}#{}", command.command_id, command.sequence)
    });
    let tasks = shown::<AsyncTask>(&history.tasks).into_iter().map(|task| {
        let (ours, theirs) = (
            tests::words::async_state(task.async_state),
            tests::words::task_state(task.state),
        );
        format!("task {} {ours} {theirs}#{}", task.task_id, task.sequence)
    });
    commands.chain(tasks).collect::<Vec<_>>().join(", ")
}

impl Store for TracedStore {
    fn identity(&self) -> Identity {
        self.store.identity()
    }

    fn commit(&self, batch: Arc<[Commit]>) -> Result<(), StoreError> {
        let failure = match self.begun.swap(true, Ordering::SeqCst) {
            true => self.wear.commit(),
            false => None,
        };
        if let Some(failure) = failure {
            self.trace
                .note(format!("{}: a commit fails: {failure:?}", self.node));
        }
        if failure != Some(Failure::Before) {
            self.store.commit(Arc::clone(&batch))?;
        }
        if failure.is_some() {
            return Err(StoreError::Unavailable("the disk is worn".to_owned()));
        }
        batch.iter().for_each(|commit| self.trace(commit));
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError> {
        self.store.reader()
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.store.history(after, limit)
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        self.store.oldest()
    }

    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError> {
        self.store.span(start)
    }

    fn trim(&self, through: Revision) -> Result<bool, StoreError> {
        self.store.trim(through)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.store.reopen()
    }
}

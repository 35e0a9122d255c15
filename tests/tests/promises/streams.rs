//! Many watchers, slow ones and dead ones: nobody misses anything, nobody delays the others, and a service stays
//! small.

use std::collections::HashSet;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use proto::host::v1::Task;
use proto::task::v1::history_range::Problem;
use proto::task::v1::operation::Verb;
use proto::task::v1::{HistoryRange, Noop};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use tests::client::{Host, detail};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::patience::{PATIENCE, eventually, persist};
use tests::proxy::Proxy;
use tests::requests;
use tests::watch::{
    Arrived, Frame, Frames, HostTasks, Record, Recorder, Reference, Selection, Start, Watch as _,
    disagreements, violations,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::Code;

/// The number of a load's tasks, with five edges each.
const MANY: usize = 20_000;

/// Two revisions each, so that some ten thousand revisions are neither in memory nor in a client's buffers.
const MORE: usize = 25_000;

/// Requests come faster than eight tasks at a time are done.
const ROOMY: [&str; 2] = ["--queue-limit", "1000000"];

/// The number of calls in flight.
const CALLERS: usize = 128;

/// The maximum growth of a service while watchers are slow or many. Its own bounds are the ring of 32 MiB (in encoded
/// form), the contents of the two files of its log, and the cache of its database.
const GROWTH_BYTES: u64 = 400 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_stops_reading_loses_nothing_and_holds_up_nobody() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let host = LoneHost::start_with(folder.path(), &ROOMY).await?;
    let mut stalled = Stalled::open(&host).await?;
    let (reader, ended) = reader(&host);
    let before = memory(&host)?;
    load(&host, MANY).await?;
    // The other watcher is told about every end while this one does not read.
    eventually("every end", || {
        ready((ended.load(Ordering::Relaxed) == MANY).then_some(()))
    })
    .await?;
    let growth = memory(&host)?.saturating_sub(before);
    eprintln!("{} MiB more for {MANY} tasks, one watcher stalled", growth >> 20);
    ensure(growth < GROWTH_BYTES, || format!("it grew by {growth} bytes"))?;

    stalled.read(|record| ends(record) == MANY).await?;
    let reference = Reference::read::<HostTasks>(host.client.channel.clone(), &stalled.begin).await?;
    let everything = Selection::default();
    let mut found = violations(&stalled.record);
    found.extend(disagreements(&stalled.record, &everything, &reference));
    let other = reader.record();
    found.extend(violations(&other));
    found.extend(disagreements(&other, &everything, &reference));
    ensure(found.is_empty(), || found.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_falls_behind_the_history_is_told_so() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let host = LoneHost::start_with(
        folder.path(),
        &[&ROOMY[..], &["--history-revisions", "2000"]].concat(),
    )
    .await?;
    let mut stalled = Stalled::open(&host).await?;
    let (_reader, ended) = reader(&host);
    // More revisions than memory holds: revisions in memory are sent even if the history is shorter.
    load(&host, MORE).await?;
    eventually("every end", || {
        ready((ended.load(Ordering::Relaxed) == MORE).then_some(()))
    })
    .await?;
    let refused = stalled.read(|_| false).await;
    let Err(Ended::Status(status)) = refused else {
        return Err(Failure::new(format!("it ended with {refused:?}")));
    };
    ensure(status.code() == Code::OutOfRange, || format!("{status:?}"))?;
    let range: HistoryRange =
        detail(&status, "type.googleapis.com/vdsm_engine.task.v1.HistoryRange").context("details")?;
    ensure(range.problem() == Problem::TooOld, || format!("{range:?}"))?;
    // Everything up to there is complete, and the oldest token is one to resume after.
    let found = violations(&stalled.record);
    ensure(found.is_empty(), || found.join("\n"))?;
    let start = Start::After(range.current_token);
    let mut again = HostTasks::open(host.client.channel.clone(), start, &Selection::default()).await?;
    let first = again.next().await.context("a frame")??;
    ensure(matches!(first, Frame::Opened { .. }), || format!("{first:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_watches_are_all_told_and_all_let_go() -> TestResult<()> {
    const CONNECTIONS: usize = 1_000;
    const EACH: usize = 10;
    allow_many_files()?;
    let folder = tempfile::tempdir()?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let before = memory(&host)?;
    let mut opening = JoinSet::new();
    let mut watches = Vec::with_capacity(CONNECTIONS * EACH);
    for _ in 0..CONNECTIONS {
        if opening.len() >= CALLERS {
            watches.extend(joined(opening.join_next().await)?);
        }
        let address = host.service.address();
        opening.spawn(async move {
            // A connection of its own.
            let client = Host::at(address)?;
            let mut frames = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                let everything = Selection::default();
                let mut one = HostTasks::open(client.channel.clone(), Start::Now, &everything).await?;
                one.next().await.context("a frame")??;
                frames.push(one);
            }
            Ok::<_, Failure>(frames)
        });
    }
    while !opening.is_empty() {
        watches.extend(joined(opening.join_next().await)?);
    }
    let growth = memory(&host)?.saturating_sub(before);
    eprintln!(
        "{} watches on {CONNECTIONS} connections: {} kB each",
        watches.len(),
        (growth >> 10) / watches.len() as u64
    );
    ensure(growth < GROWTH_BYTES, || format!("it grew by {growth} bytes"))?;

    load(&host, 1).await?;
    let mut told = JoinSet::new();
    for mut frames in watches {
        told.spawn(async move {
            while !matches!(frames.next().await.context("a frame")??, Frame::Changes(_)) {}
            Ok::<_, Failure>(frames)
        });
    }
    let mut watches = Vec::new();
    while let Some(frames) = told.join_next().await {
        watches.push(joined(Some(frames))?);
    }

    let start = Instant::now();
    host.service.signal(Signal::TERM)?;
    let status = host.service.ended().await?;
    let took = start.elapsed();
    ensure(status.is_some_and(|status| status.success()), || {
        format!("{status:?}")
    })?;
    // The contract says 10 s.
    ensure(took < Duration::from_secs(30), || {
        format!("it took {took:?} to stop")
    })?;
    for mut frames in watches.drain(..) {
        let mut said = Vec::new();
        while let Some(frame) = frames.next().await {
            said.push(frame);
        }
        let closing = said
            .iter()
            .any(|frame| matches!(frame, Ok(Frame::Closing { .. })));
        let away = matches!(said.last(), Some(Err(status)) if status.code() == Code::Unavailable);
        ensure(closing && away, || {
            format!("at the end a watch was told {said:?}")
        })?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_watchers_are_told_the_same() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let host = LoneHost::start_below(folder.path()).await?;
    let begin = Stalled::open(&host).await?.begin;
    let crowd: Vec<_> = (0..100).map(|_| reader(&host)).collect();
    load(&host, 500).await?;
    for (_, ended) in &crowd {
        eventually("every end", || {
            ready((ended.load(Ordering::Relaxed) == 500).then_some(()))
        })
        .await?;
    }
    let reference = Reference::read::<HostTasks>(host.client.channel.clone(), &begin).await?;
    let found: Vec<String> = crowd
        .iter()
        .flat_map(|(reader, _)| disagreements(&reader.record(), &Selection::default(), &reference))
        .collect();
    ensure(found.is_empty(), || found.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanished_without_a_word_is_let_go() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let host = LoneHost::start_below(folder.path()).await?;
    let proxy = Proxy::before(host.service.address()).await?;
    let client = Host::at(proxy.address())?;
    let mut frames = HostTasks::open(client.channel, Start::Snapshot, &Selection::default()).await?;
    frames.next().await.context("a frame")??;
    proxy.freeze();
    let start = Instant::now();
    eventually("the host to close the connection", || {
        ready((proxy.given_up() > 0).then_some(()))
    })
    .await?;
    let took = start.elapsed();
    // The contract says 15 s.
    ensure(took < Duration::from_secs(45), || format!("it took {took:?}"))
}

/// A watch that was opened, and is not read.
struct Stalled {
    frames: Frames<Task>,
    record: Record<Task>,
    /// The point at which its snapshot ended.
    begin: String,
}

/// Why a watch that was read further ended badly.
#[derive(Debug)]
enum Ended {
    Status(Box<tonic::Status>),
    Finished,
    Silent,
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Failure::new(format!("the watch ended: {ended:?}"))
    }
}

impl Stalled {
    /// Opens a watch on a connection of its own, and reads to the end of the snapshot.
    async fn open(host: &LoneHost) -> TestResult<Self> {
        let client = Host::at(host.service.address())?;
        let frames = HostTasks::open(client.channel, Start::Snapshot, &Selection::default()).await?;
        let mut stalled = Self {
            frames,
            record: Record::default(),
            begin: String::new(),
        };
        stalled.keep(Frame::Asked {
            start: Start::Snapshot,
        });
        stalled.read(|record| record.token().is_some()).await?;
        stalled.begin = stalled.record.token().context("a token")?.to_owned();
        Ok(stalled)
    }

    /// Reads on until `enough` holds.
    async fn read(&mut self, enough: impl Fn(&Record<Task>) -> bool) -> Result<(), Ended> {
        let mut looked_at = 0;
        loop {
            // Examining everything at each frame would take the square of its length.
            if self.record.frames.len() >= looked_at + looked_at / 4 {
                looked_at = self.record.frames.len();
                if enough(&self.record) {
                    return Ok(());
                }
            }
            match tokio::time::timeout(PATIENCE, self.frames.next()).await {
                Ok(Some(Ok(frame))) => {
                    let quiet = matches!(frame, Frame::Heartbeat { .. });
                    self.keep(frame);
                    if quiet {
                        looked_at = 0;
                    }
                }
                Ok(Some(Err(status))) => return Err(Ended::Status(Box::new(status))),
                Ok(None) => return Err(Ended::Finished),
                Err(_) => return Err(Ended::Silent),
            }
        }
    }

    fn keep(&mut self, frame: Frame<Task>) {
        let at = SystemTime::now();
        self.record.frames.push(Arrived { at, frame });
    }
}

/// The number of tasks that have ended.
fn ends(record: &Record<Task>) -> usize {
    record.items().filter(|task| is_over(task)).count()
}

fn is_over(task: &Task) -> bool {
    tests::words::task_is_over(task.state)
}

/// A watcher that reads, and the number of ends that it was told about.
fn reader(host: &LoneHost) -> (Recorder<Task>, Arc<AtomicUsize>) {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let mut over = HashSet::new();
    let recorder = Recorder::tapped::<HostTasks>(host.client.channel.clone(), move |arrived| {
        // A task that ended before the snapshot is shown as over, and does not change any more.
        let items = match &arrived.frame {
            Frame::Snapshot(items) => items,
            Frame::Changes(changes) => &changes.items,
            _ => return,
        };
        // A reader that falls behind the history begins again with a snapshot.
        over.extend(
            items
                .iter()
                .filter(|task| is_over(task))
                .map(|task| task.task_id.clone()),
        );
        count.store(over.len(), Ordering::Relaxed);
    });
    (recorder, ended)
}

/// Starts this many tasks that do nothing.
async fn load(host: &LoneHost, tasks: usize) -> TestResult<()> {
    let left = Arc::new(AtomicUsize::new(tasks));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS.min(tasks) {
        let (client, left) = (host.client.tasks.clone(), Arc::clone(&left));
        callers.spawn(async move {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let request = requests::start_task(Verb::Noop(Noop {}));
                persist(|| {
                    let (mut client, request) = (client.clone(), request.clone());
                    async move { client.start_task(request).await }
                })
                .await
                .context("StartTask")?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(outcome) = callers.join_next().await {
        joined(Some(outcome))?;
    }
    Ok(())
}

fn joined<T>(outcome: Option<Result<TestResult<T>, tokio::task::JoinError>>) -> TestResult<T> {
    outcome.context("a task of the test")?.map_err(Failure::new)?
}

/// The host's used memory, in bytes.
fn memory(host: &LoneHost) -> TestResult<u64> {
    let pid = host.service.pid().map(Pid::as_raw_nonzero).context("a process")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(kilobytes.context("VmRSS")? << 10)
}

/// A thousand connections need more files than many shells allow.
pub(crate) fn allow_many_files() -> TestResult<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, all).map_err(Failure::new)
}

//! A client that watches for as long as it lives: it resumes after its last token whenever a stream ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Channel;

use super::record::{Arrived, Frame, Record};
use super::rpc::{Item, Selection, Start, Watch};
use crate::failure::{Context, TestResult};
use crate::patience::PATIENCE;

/// Between two attempts to reach a service that is away.
const RETRY: Duration = Duration::from_millis(20);

/// A watch at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Recorder<I> {
    record: Arc<Mutex<Record<I>>>,
    grown: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl<I: Item> Recorder<I> {
    /// Watches from a snapshot on.
    pub fn start<W: Watch<Item = I>>(channel: Channel) -> Self {
        Self::tapped::<W>(channel, |_| {})
    }

    /// Watches from a snapshot on, and shows each frame to `tap` as it arrives.
    pub fn tapped<W: Watch<Item = I>>(
        channel: Channel,
        tap: impl FnMut(&Arrived<I>) + Send + 'static,
    ) -> Self {
        Self::selecting::<W>(channel, Start::Snapshot, Selection::default(), tap)
    }

    /// Watches what is selected, from `start` on.
    pub fn selecting<W: Watch<Item = I>>(
        channel: Channel,
        start: Start,
        selection: Selection,
        tap: impl FnMut(&Arrived<I>) + Send + 'static,
    ) -> Self {
        let record = Arc::default();
        let (grow, grown) = watch::channel(());
        let pen = Pen {
            record: Arc::clone(&record),
            grow,
            tap,
        };
        let task = tokio::spawn(follow::<W>(channel, start, selection, pen));
        Self { record, grown, task }
    }

    /// What has arrived so far.
    pub fn record(&self) -> MutexGuard<'_, Record<I>> {
        lock(&self.record)
    }

    /// Waits until what has arrived is enough.
    ///
    /// # Errors
    /// Naming `what`, when it never is.
    pub async fn until<T>(&self, what: &str, enough: impl Fn(&Record<I>) -> Option<T>) -> TestResult<T> {
        let mut grown = self.grown.clone();
        let wait = async {
            loop {
                grown.mark_unchanged();
                if let Some(found) = enough(&self.record()) {
                    return Some(found);
                }
                grown.changed().await.ok()?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await.ok().flatten();
        found.context(format!("no {} watch told of {what}", I::NAME))
    }

    /// Waits until so many streams were opened, the first one counted, and the next has a token to resume after.
    ///
    /// # Errors
    /// When they are not.
    pub async fn opens(&self, streams: usize) -> TestResult<()> {
        let what = format!("{streams} streams");
        let enough = |record: &Record<I>| record.token().filter(|_| record.streams() >= streams).map(drop);
        self.until(&what, enough).await
    }
}

impl<I> Drop for Recorder<I> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes the record.
struct Pen<I, T> {
    record: Arc<Mutex<Record<I>>>,
    grow: watch::Sender<()>,
    tap: T,
}

impl<I: Item, T: FnMut(&Arrived<I>)> Pen<I, T> {
    fn write(&mut self, frame: Frame<I>) {
        let arrived = Arrived {
            at: SystemTime::now(),
            frame,
        };
        (self.tap)(&arrived);
        lock(&self.record).frames.push(arrived);
        self.grow.send_replace(());
    }
}

async fn follow<W: Watch>(
    channel: Channel,
    start: Start,
    selection: Selection,
    mut pen: Pen<W::Item, impl FnMut(&Arrived<W::Item>)>,
) {
    let mut start = start;
    loop {
        pen.write(Frame::Asked { start: start.clone() });
        let ended = match W::open(channel.clone(), start.clone(), &selection).await {
            Err(status) => status,
            Ok(mut frames) => loop {
                match frames.next().await {
                    None => break tonic::Status::ok("the stream ended"),
                    Some(Err(status)) => break status,
                    Some(Ok(frame)) => {
                        if let Some(token) = frame.token() {
                            start = Start::After(token.to_owned());
                        }
                        pen.write(frame);
                    }
                }
            },
        };
        if ended.code() == Code::OutOfRange {
            start = Start::Snapshot;
            pen.write(Frame::OutOfRange);
        } else {
            pen.write(Frame::Lost {
                why: format!("{:?}: {}", ended.code(), ended.message()),
            });
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A record is whole after every write, so a panic elsewhere spoils nothing.
fn lock<I>(record: &Mutex<Record<I>>) -> MutexGuard<'_, Record<I>> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

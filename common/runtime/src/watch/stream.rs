//! The stream of one watch: a cursor into the log, polled by the connection that sends it.
//!
//! There is no task and no channel a watcher: an idle one costs its place among the waiters and a timer. What
//! memory has is read at once; what only the store has is read on a blocking thread, some hundred revisions at
//! a time, so that a disk that hangs stops the slow reader and not the threads that serve everybody.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use common::revision::{Revision, Start as ServiceStart};
use futures_core::Stream;
use proto::convert;
use proto::encoded::v1::WatchResponse;
use proto::encoded::v1::watch_response::{Changes, Frame, Snapshot as Page};
use proto::task::v1 as wire;
use proto::task::v1::closing::Reason;
use store::StoreError;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::options::{Start, WatchOptions, to_wire};
use super::snapshot::{self, Snapshot, SnapshotError, Step};
use super::{Feed, pieces};
use crate::log::{Entry, Found, Log, Place, Waiters};
use crate::server::{self, Held, Kept};
use crate::{chance, metrics, reads, status};

/// Revisions taken from the log at once.
const CHUNK: usize = 256;

/// Bytes of them, as they are encoded, unless one alone is larger: about what goes out at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Samples go out at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Heartbeats of all streams that begin while there are as many: some thousandths of a processor.
const HEARTBEATS_PER_SECOND: u32 = 2_000;

/// A tenth of a stream's time either way: streams that began together do not all come back together.
const MAX_AGE_JITTER: f64 = 0.1;

/// When to come back to a service that stops.
const RETRY_AFTER_SHUTDOWN: Duration = Duration::from_secs(1);

/// Revisions, in order.
type Entries<H> = Vec<Arc<Entry<H>>>;

/// A read from the store, for the call that this stream answers. What it has read is in the account before it is handed
/// over, for it may lie there long until the stream is asked for more.
type Reading<T> = Pin<Box<dyn Future<Output = Result<Result<(T, Option<Held>), Status>, StoreError>> + Send>>;

/// See the module.
pub struct WatchStream<F: Feed> {
    log: Arc<Log<F::History>>,
    feed: Arc<F>,
    options: WatchOptions,
    phase: Phase,
    /// Frames that are made and not yet taken.
    ready: VecDeque<Frame>,
    /// Revisions that are read and not yet looked at.
    entries: VecDeque<Arc<Entry<F::History>>>,
    /// Everything up to here was made into frames, or selected nothing.
    cursor: (Revision, ServiceStart),
    /// A read from the store that is under way.
    fetching: Option<Reading<Entries<F::History>>>,
    /// The memory of what is ready or to be looked at.
    held: Option<Held>,
    /// The memory of the filter.
    _kept: Option<Kept>,
    change: Place,
    /// Tells how far it is, where that is measured.
    told: Option<metrics::Cursor>,
    sample: Place,
    samples_seen: u64,
    /// Something was sent since the clocks were last looked at.
    sent: bool,
    /// Something was given out, and nobody has come back for more since.
    untaken: bool,
    heartbeat_at: Instant,
    samples_at: Instant,
    ends_at: Instant,
    timer: Pin<Box<Sleep>>,
}

enum Phase {
    /// To be opened.
    SnapshotDue,
    /// A step of the snapshot is being read.
    Reading(Reading<Step>),
    /// The client has not taken all of the last step.
    Paused(Snapshot),
    /// Changes are sent as they come.
    Live,
    /// Only this is still to be said.
    Ending(Option<Status>),
}

impl<F: Feed> WatchStream<F> {
    #[allow(clippy::result_large_err)] // The handlers answer with it as it is.
    pub(super) fn start(
        log: Arc<Log<F::History>>,
        feed: F,
        mut options: WatchOptions,
    ) -> Result<Self, Status> {
        let present = server::present();
        let watches = present.as_ref().map_or(0, |call| call.watches());
        options.heartbeat = options.heartbeat.max(least_heartbeat(watches));
        if log.closed().is_some() {
            return Err(status::from_fault(&status::shutting_down()));
        }
        let kept = present.map(|call| call.keep(feed.held_bytes())).transpose();
        let kept = kept.map_err(|fault| status::from_fault(&fault))?.flatten();
        let (phase, after) = match options.start {
            Start::Snapshot => (Phase::SnapshotDue, Revision(0)),
            Start::Now => (Phase::Live, log.current()),
            Start::After(token) => (Phase::Live, log.resume(&token)?),
        };
        let opened = Frame::Opened(wire::Opened {
            store_id: log.identity().store_id.to_string(),
            heartbeat_interval: Some(to_wire(options.heartbeat)),
        });
        let told = log.meters().watch();
        if let (Some(told), Phase::Live) = (&told, &phase) {
            told.is_at(after);
        }
        let now = Instant::now();
        let jitter = 1.0 + MAX_AGE_JITTER * (chance::fraction() * 2.0 - 1.0);
        Ok(Self {
            phase,
            ready: VecDeque::from([opened]),
            entries: VecDeque::new(),
            cursor: (after, log.identity().start),
            fetching: None,
            held: None,
            _kept: kept,
            change: Waiters::place(log.waiters()),
            told,
            sample: Waiters::place(log.progress().waiters()),
            // A new watcher is shown where the running tasks are.
            samples_seen: 0,
            sent: false,
            untaken: false,
            heartbeat_at: now + options.heartbeat,
            samples_at: now,
            ends_at: now + options.max_age.mul_f64(jitter),
            timer: Box::pin(tokio::time::sleep_until(now + options.heartbeat)),
            feed: Arc::new(feed),
            log,
            options,
        })
    }

    /// One step further; ready when there is something in `self.ready`, or the phase has changed.
    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match &mut self.phase {
            Phase::Live => return self.poll_live(context),
            Phase::Ending(_) => return Poll::Ready(Ok(())),
            Phase::SnapshotDue | Phase::Reading(_) | Phase::Paused(_) => {}
        }
        if self.log.closed().is_some() {
            // There is no point yet at which resuming would be right.
            self.close(Reason::Shutdown, String::new());
            return Poll::Ready(Ok(()));
        }
        self.poll_snapshot(context)
    }

    fn poll_snapshot(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let (feed, log) = (Arc::clone(&self.feed), Arc::clone(&self.log));
        match std::mem::replace(&mut self.phase, Phase::SnapshotDue) {
            Phase::SnapshotDue => {
                ready!(self.poll_taken(context));
                let first = move |call: Option<reads::ReadFor<'_>>| {
                    Ok(counted_step(call, snapshot::first(&**log.store(), &*feed)))
                };
                self.phase = Phase::Reading(Box::pin(reads::in_turn(true, first)));
            }
            Phase::Paused(snapshot) => {
                if self.poll_taken(context).is_pending() {
                    self.phase = Phase::Paused(snapshot);
                    return Poll::Pending;
                }
                let next =
                    move |call: Option<reads::ReadFor<'_>>| Ok(counted_step(call, snapshot.next(&*feed)));
                self.phase = Phase::Reading(Box::pin(reads::in_turn(true, next)));
            }
            Phase::Reading(mut job) => {
                // The end of the service must end this too.
                let _ = self.log.poll_changed(Revision(u64::MAX), &self.change, context);
                let Poll::Ready(step) = job.as_mut().poll(context) else {
                    self.phase = Phase::Reading(job);
                    // However long the disk takes, the stream is alive: it must not be taken for a dead one.
                    return self.poll_heartbeat(context).map(Ok);
                };
                let (step, held) = step.map_err(status::from_store)??;
                self.held = held;
                self.take_step(step);
            }
            Phase::Live | Phase::Ending(_) => unreachable!("called only while there is a snapshot to read"),
        }
        Poll::Ready(Ok(()))
    }

    /// Ready once what was given out is taken: whoever is asked for more than one message at once collects them, and sends
    /// them when there is nothing more for now. Nothing is read ahead of a client that takes nothing.
    fn poll_taken(&mut self, context: &Context<'_>) -> Poll<()> {
        if !std::mem::take(&mut self.untaken) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what memory has of the next revisions: more than one only where there is room to keep them for a client that
    /// does not take them, for by then the ring may have none of them any more. What goes out at once is not counted here.
    #[allow(clippy::result_large_err)] // The stream ends with it.
    fn take_entries(&mut self, mut entries: Entries<F::History>) -> Result<(), Status> {
        if let Some(call) = server::present() {
            let bytes = entries.iter().map(|entry| entry.bytes).sum();
            if entries.len() > 1 {
                self.held = call.hold_spare(bytes);
                if self.held.is_none() {
                    entries.truncate(1);
                }
            } else if bytes > CHUNK_BYTES {
                self.held = call.hold(bytes).map_err(|fault| status::from_fault(&fault))?;
            }
        }
        self.entries.extend(entries);
        Ok(())
    }

    fn take_step(&mut self, step: Step) {
        let pages = step.pages.into_iter();
        self.ready
            .extend(pages.map(|items| Frame::Snapshot(Page { items })));
        match step.rest {
            Some(rest) => self.phase = Phase::Paused(rest),
            None => {
                self.cursor.0 = step.revision;
                if let Some(told) = &self.told {
                    told.is_at(step.revision);
                }
                let token = self.token();
                self.ready
                    .push_back(Frame::SnapshotDone(wire::SnapshotDone { token }));
                self.phase = Phase::Live;
            }
        }
    }

    fn poll_live(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some(entry) = self.entries.pop_front() {
            return Poll::Ready(self.take_entry(&entry));
        }
        self.held = None;
        // All that was read is sent: a point at which the stream may end, and at which it shows that it lives.
        if let Some(reason) = self.log.closed() {
            self.close(reason, self.token());
            return Poll::Ready(Ok(()));
        }
        if self.look_at_clocks() {
            return Poll::Ready(Ok(()));
        }
        // A reader for whom there is always more must let others have their turn.
        ready!(tokio::task::coop::poll_proceed(context)).made_progress();
        if let Some(job) = &mut self.fetching {
            let Poll::Ready(fetched) = job.as_mut().poll(context) else {
                return self
                    .poll_clocks(self.heartbeat_at.min(self.ends_at), context)
                    .map(Ok);
            };
            self.fetching = None;
            let (entries, held) = fetched.map_err(status::from_store)??;
            self.held = held;
            self.entries.extend(entries);
            return Poll::Ready(Ok(()));
        }
        match self.log.read_ring(self.cursor.0, CHUNK, CHUNK_BYTES) {
            Found::Here(entries) => self.take_entries(entries)?,
            Found::Older => {
                ready!(self.poll_taken(context));
                let (log, after) = (Arc::clone(&self.log), self.cursor.0);
                let read = move |call: Option<reads::ReadFor<'_>>| {
                    let entries = log.read_chunk(after, CHUNK, CHUNK_BYTES).map_err(Status::from);
                    Ok(entries.and_then(|entries| {
                        let bytes = entries.iter().map(|entry| entry.bytes).sum();
                        counted(call, entries, bytes)
                    }))
                };
                self.fetching = Some(Box::pin(reads::in_turn(false, read)));
            }
            Found::Nothing => ready!(self.poll_quiet(context)),
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is to be sent now: waits for a change, a sample or a clock.
    fn poll_quiet(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self
            .log
            .poll_changed(self.cursor.0, &self.change, context)
            .is_ready()
        {
            return Poll::Ready(());
        }
        let mut until = self.heartbeat_at.min(self.ends_at);
        if self.options.progress {
            // Woken by samples only when they may be sent: else each one would wake each watcher.
            if self.samples_at > Instant::now() {
                until = until.min(self.samples_at);
            } else {
                self.sample.wait(context.waker());
                if self.log.progress().last() > self.samples_seen {
                    return Poll::Ready(());
                }
            }
        }
        self.poll_clocks(until, context)
    }

    fn poll_clocks(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(context)
    }

    /// While there is no point yet at which resuming would be right: heartbeats say so by having none.
    fn poll_heartbeat(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if std::mem::take(&mut self.sent) {
            self.heartbeat_at = now + self.options.heartbeat;
        }
        if now < self.heartbeat_at {
            return self.poll_clocks(self.heartbeat_at, context);
        }
        self.heartbeat_at = now + self.options.heartbeat;
        let token = String::new();
        self.ready.push_back(Frame::Heartbeat(wire::Heartbeat { token }));
        Poll::Ready(())
    }

    /// Makes the frames of a revision, if the filter selects anything of it.
    #[allow(clippy::result_large_err)] // The stream ends with it.
    fn take_entry(&mut self, entry: &Entry<F::History>) -> Result<(), Status> {
        let items = match self.feed.changes(entry) {
            Err(StoreError::Damaged(what)) => {
                let what = format!("revision {}: {what}", entry.revision.0);
                return Err(self.log.unreadable(&what).map_err(status::from_store)?.into());
            }
            items => items.map_err(status::from_store)?,
        };
        self.cursor = (entry.revision, entry.start);
        if let Some(told) = &self.told {
            told.is_at(entry.revision);
        }
        if !items.is_empty() {
            self.log.meters().delivers(entry.durable_at);
        }
        let mut pieces = pieces::cut(items, usize::MAX).into_iter().peekable();
        while let Some(items) = pieces.next() {
            let more = pieces.peek().is_some();
            let token = match more {
                true => String::new(),
                false => self.log.token_of(entry).to_string(),
            };
            self.ready.push_back(Frame::Changes(Changes {
                revision: entry.revision.0,
                token,
                commit_time: Some(convert::timestamp(entry.time)),
                items,
                more,
            }));
        }
        Ok(())
    }

    /// Adds what is due by time; says whether it added anything, or ended the stream.
    fn look_at_clocks(&mut self) -> bool {
        let now = Instant::now();
        if std::mem::take(&mut self.sent) {
            self.heartbeat_at = now + self.options.heartbeat;
        }
        if now >= self.ends_at {
            self.close(Reason::MaxAge, self.token());
            return true;
        }
        if self.options.progress && now >= self.samples_at && self.log.progress().last() > self.samples_seen {
            // Also where the filter selects none of them: looking costs as well.
            self.samples_at = now + PROGRESS_INTERVAL;
            if self.take_samples() {
                return true;
            }
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + self.options.heartbeat;
            let token = self.token();
            self.ready.push_back(Frame::Heartbeat(wire::Heartbeat { token }));
            return true;
        }
        false
    }

    fn take_samples(&mut self) -> bool {
        let feed = &self.feed;
        let (items, seen) = self
            .log
            .progress()
            .since(self.samples_seen, |task_id| feed.selects(task_id));
        self.samples_seen = seen;
        if items.is_empty() {
            return false;
        }
        self.ready
            .push_back(Frame::Progress(wire::ProgressSamples { items }));
        true
    }

    fn close(&mut self, reason: Reason, token: String) {
        let (retry_after, status) = match reason {
            Reason::MaxAge => (Duration::ZERO, None),
            Reason::Shutdown | Reason::Unspecified => (
                RETRY_AFTER_SHUTDOWN,
                Some(status::from_fault(&status::shutting_down())),
            ),
        };
        self.ready.push_back(Frame::Closing(wire::Closing {
            reason: reason.into(),
            token,
            retry_after: Some(to_wire(retry_after)),
        }));
        self.end(status);
    }

    fn end(&mut self, status: Option<Status>) {
        self.entries.clear();
        self.fetching = None;
        self.phase = Phase::Ending(status);
    }

    fn token(&self) -> String {
        self.log.token_at(self.cursor.0, self.cursor.1).to_string()
    }
}

impl<F: Feed> Stream for WatchStream<F> {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                (self.sent, self.untaken) = (true, true);
                return Poll::Ready(Some(Ok(WatchResponse { frame: Some(frame) })));
            }
            if let Phase::Ending(status) = &mut self.phase {
                return Poll::Ready(status.take().map(Err));
            }
            if let Err(status) = ready!(self.poll_work(context)) {
                self.end(Some(status));
            }
        }
    }
}

// All that is pinned is boxed.
impl<F: Feed> Unpin for WatchStream<F> {}

/// What heartbeats cost does not grow with the number of streams: the more there are, the rarer they are. `Opened` says so.
fn least_heartbeat(watches: usize) -> Duration {
    Duration::from_millis(u64::try_from(watches).unwrap_or(u64::MAX)) * 1_000 / HEARTBEATS_PER_SECOND
}

/// What was read, counted as held for the call that it was read for.
#[allow(clippy::result_large_err)] // The stream ends with it.
fn counted<T>(call: Option<reads::ReadFor<'_>>, read: T, bytes: usize) -> Result<(T, Option<Held>), Status> {
    let held = match call {
        Some(call) => call.hold(bytes).map_err(|fault| status::from_fault(&fault))?,
        None => None,
    };
    Ok((read, held))
}

#[allow(clippy::result_large_err)] // The stream ends with it.
fn counted_step(
    call: Option<reads::ReadFor<'_>>,
    step: Result<Step, SnapshotError>,
) -> Result<(Step, Option<Held>), Status> {
    let step = step.map_err(snapshot_status)?;
    let bytes = step.held_bytes();
    counted(call, step, bytes)
}

fn snapshot_status(error: SnapshotError) -> Status {
    match error {
        SnapshotError::Store(error) => status::from_store(error),
        SnapshotError::TooSlow => status::from_fault(&common::Fault::new(
            common::FaultCode::QueueFull,
            error.to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_rarer_the_more_streams_there_are() {
        assert_eq!(least_heartbeat(200), Duration::from_millis(100));
        assert_eq!(least_heartbeat(10_000), Duration::from_secs(5));
        assert_eq!(least_heartbeat(0), Duration::ZERO);
    }
}

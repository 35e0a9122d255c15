//! The frames of a watch, over reconnects: each change once, in order.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use proto::engine::v1::event_service_client::EventServiceClient;
use proto::engine::v1::job_service_client::JobServiceClient;
use proto::engine::v1::task_service_client::TaskServiceClient;
use proto::engine::v1::{
    AsyncTask, Event, Job, WatchEventsRequest, WatchEventsResponse, WatchJobsRequest, WatchJobsResponse,
    WatchTasksRequest, WatchTasksResponse, watch_events_request, watch_events_response, watch_jobs_request,
    watch_jobs_response, watch_tasks_request, watch_tasks_response,
};
use proto::task::v1::{Progress, WatchStart, watch_start};
use tonic::{Code, Status, Streaming};

use crate::engine::{Engine, wire_duration};
use crate::failure::{Failure, is_passing};

/// How often the engine says that it is there, while nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Without a word for so long the stream is taken for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// Between two tries to connect again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// What a watch says that somebody might want to know.
#[derive(Debug)]
pub(crate) enum Frame<T> {
    /// As it is now: of a snapshot.
    Now(T),
    /// The snapshot is whole.
    Whole,
    /// A change.
    Changed(T),
    /// How far tasks are.
    Progress(Vec<Progress>),
    /// The connection is lost, and is being made again.
    Lost(String),
    /// The connection is there again.
    Back,
    /// The engine's history no longer reaches back to what was seen last: a snapshot follows.
    Anew,
}

/// Something that can be watched.
pub(crate) trait Watched: Sized + Send + 'static {
    /// Which of them.
    type Filter: Clone + Send + Sync;
    /// What comes.
    type Response: Send + 'static;

    /// Opens a stream.
    fn watch(
        engine: &Engine,
        filter: Self::Filter,
        start: WatchStart,
        ended_within: Duration,
    ) -> impl Future<Output = Result<Streaming<Self::Response>, Status>> + Send;

    /// What a frame says: its items and its token.
    fn read(response: Self::Response) -> Read<Self>;

    /// What counts its changes, and what it is counted by: equal or less was seen already.
    fn counted(&self) -> Option<(String, u64)>;
}

/// A frame, taken apart.
#[derive(Debug)]
pub(crate) struct Read<T> {
    frames: Vec<Frame<T>>,
    token: String,
    is_closing: bool,
}

macro_rules! watched {
    ($item:ident, $client:ident, $rpc:ident, $request:ident, $requests:ident, $response:ident, $responses:ident,
     $counted:expr) => {
        impl Watched for $item {
            type Filter = $requests::Filter;
            type Response = $response;

            async fn watch(
                engine: &Engine,
                filter: Self::Filter,
                start: WatchStart,
                ended_within: Duration,
            ) -> Result<Streaming<Self::Response>, Status> {
                let request = $request {
                    filter: Some(filter),
                    start: Some(start),
                    ended_within: Some(wire_duration(ended_within)),
                    heartbeat_interval: Some(wire_duration(HEARTBEAT)),
                    include_progress: true,
                };
                let stream = $client::new(engine.wire()).$rpc(request).await?;
                Ok(stream.into_inner())
            }

            fn read(response: Self::Response) -> Read<Self> {
                use $responses::Frame as Wire;
                let mut read = Read {
                    frames: Vec::new(),
                    token: String::new(),
                    is_closing: false,
                };
                match response.frame {
                    None | Some(Wire::Opened(_)) => {}
                    Some(Wire::Snapshot(page)) => read.frames.extend(page.items.into_iter().map(Frame::Now)),
                    Some(Wire::SnapshotDone(done)) => {
                        read.token = done.token;
                        read.frames.push(Frame::Whole);
                    }
                    Some(Wire::Changes(changes)) => {
                        read.token = changes.token;
                        read.frames
                            .extend(changes.items.into_iter().map(Frame::Changed));
                    }
                    Some(Wire::Progress(samples)) => read.frames.push(Frame::Progress(samples.items)),
                    Some(Wire::Heartbeat(beat)) => read.token = beat.token,
                    Some(Wire::Closing(closing)) => {
                        read.token = closing.token;
                        read.is_closing = true;
                    }
                }
                read
            }

            fn counted(&self) -> Option<(String, u64)> {
                let counted: fn(&Self) -> Option<(String, u64)> = $counted;
                counted(self)
            }
        }
    };
}

watched!(
    Job,
    JobServiceClient,
    watch_jobs,
    WatchJobsRequest,
    watch_jobs_request,
    WatchJobsResponse,
    watch_jobs_response,
    |job| Some((job.job_id.clone(), job.sequence))
);
watched!(
    AsyncTask,
    TaskServiceClient,
    watch_tasks,
    WatchTasksRequest,
    watch_tasks_request,
    WatchTasksResponse,
    watch_tasks_response,
    |task| Some((task.task_id.clone(), task.sequence))
);
watched!(
    Event,
    EventServiceClient,
    watch_events,
    WatchEventsRequest,
    watch_events_request,
    WatchEventsResponse,
    watch_events_response,
    |event| Some((event.event_id.to_string(), 1))
);

/// A watch that comes back.
pub(crate) struct Watch<T: Watched> {
    engine: Engine,
    filter: T::Filter,
    ended_within: Duration,
    stream: Option<Streaming<T::Response>>,
    waiting: VecDeque<Frame<T>>,
    /// Up to where all has been seen.
    token: String,
    /// What this stream has sent since that token.
    sent: HashMap<String, u64>,
    /// What earlier streams had sent since that token, and what this one sends again.
    seen: HashMap<String, u64>,
    is_lost: bool,
    pause: Duration,
}

impl<T: Watched> Watch<T> {
    /// Opens it.
    ///
    /// # Errors
    /// What the engine says, and that it cannot be reached.
    pub(crate) async fn open(
        engine: &Engine,
        filter: T::Filter,
        ended_within: Duration,
    ) -> Result<Self, Failure> {
        let mut watch = Self {
            engine: engine.clone(),
            filter,
            ended_within,
            stream: None,
            waiting: VecDeque::new(),
            token: String::new(),
            sent: HashMap::new(),
            seen: HashMap::new(),
            is_lost: false,
            pause: AGAIN.0,
        };
        let stream = T::watch(engine, watch.filter.clone(), watch.start(), ended_within).await;
        watch.stream = Some(stream.map_err(|status| Failure::of_call(&engine.server, status))?);
        Ok(watch)
    }

    fn start(&self) -> WatchStart {
        let start = match self.token.is_empty() {
            true => watch_start::Start::Snapshot(()),
            false => watch_start::Start::After(self.token.clone()),
        };
        WatchStart { start: Some(start) }
    }

    /// The next frame, whatever becomes of the connection meanwhile. It may be given up and asked for again.
    ///
    /// # Errors
    /// What the engine refuses for good.
    pub(crate) async fn next(&mut self) -> Result<Frame<T>, Failure> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Ok(frame);
            }
            match &mut self.stream {
                None => self.reconnect().await?,
                Some(stream) => {
                    let message = tokio::time::timeout(SILENCE, stream.message()).await;
                    match message
                        .unwrap_or_else(|_| Err(Status::unavailable("the engine says nothing any more")))
                    {
                        Ok(Some(response)) => self.take(T::read(response)),
                        Ok(None) => self.end(),
                        Err(status) if is_passing(&status) => self.lose(&status),
                        Err(status) if status.code() == Code::OutOfRange => self.begin_anew(),
                        Err(status) => return Err(Failure::of_call(&self.engine.server, status)),
                    }
                }
            }
        }
    }

    fn take(&mut self, read: Read<T>) {
        self.pause = AGAIN.0;
        if std::mem::take(&mut self.is_lost) {
            self.waiting.push_back(Frame::Back);
        }
        for frame in read.frames {
            let counted = match &frame {
                Frame::Now(item) | Frame::Changed(item) => item.counted(),
                Frame::Whole | Frame::Progress(_) | Frame::Lost(_) | Frame::Back | Frame::Anew => None,
            };
            if let Some((item, sequence)) = counted {
                if self.seen.get(&item).is_some_and(|seen| *seen >= sequence) {
                    continue;
                }
                self.sent.insert(item, sequence);
            }
            self.waiting.push_back(frame);
        }
        if !read.token.is_empty() {
            self.token = read.token;
            // Nothing up to the token comes again.
            self.sent.clear();
            self.seen.clear();
        }
        if read.is_closing {
            self.end();
        }
    }

    /// What the stream has sent is not shown again if the next one sends it.
    fn end(&mut self) {
        self.stream = None;
        self.seen.extend(self.sent.drain());
    }

    fn lose(&mut self, status: &Status) {
        self.end();
        if !self.is_lost {
            self.is_lost = true;
            self.waiting.push_back(Frame::Lost(status.message().to_owned()));
        }
    }

    fn begin_anew(&mut self) {
        self.stream = None;
        self.token.clear();
        self.sent.clear();
        self.seen.clear();
        self.waiting.push_back(Frame::Anew);
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        let opening = T::watch(&self.engine, self.filter.clone(), self.start(), self.ended_within);
        let opened = tokio::time::timeout(SILENCE, opening).await;
        match opened.unwrap_or_else(|_| Err(Status::unavailable("the engine does not answer"))) {
            Ok(stream) => self.stream = Some(stream),
            Err(status) if status.code() == Code::OutOfRange && !self.token.is_empty() => self.begin_anew(),
            Err(status) if is_passing(&status) => {
                self.lose(&status);
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(AGAIN.1);
            }
            Err(status) => return Err(Failure::of_call(&self.engine.server, status)),
        }
        Ok(())
    }
}

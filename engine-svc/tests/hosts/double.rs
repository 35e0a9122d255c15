//! A host that is wrong on purpose: it keeps an honest history of its tasks, and shows it as its script says.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, HostId, Incarnation, StoreId, TaskId};
use common::revision::{Revision, Start, Token};
use proto::encode;
use proto::encoded::v1::WatchResponse;
use proto::encoded::v1::watch_response::{Changes, Frame, Snapshot};
use proto::host::v1::host_service_server::{HostService, HostServiceServer};
use proto::host::v1::storage_service_server::{StorageService, StorageServiceServer};
use proto::host::v1::task_service_server::{TaskService, TaskServiceServer};
use proto::host::v1::*;
use proto::task::v1 as words;
use runtime::metadata::Caller;
use runtime::status;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// The only start of its service.
const START: Start = Start(7);

/// What the next stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The truth, to the end.
    None,
    /// Breaks off after this many frames.
    CutAfter(usize),
    /// Sends every frame of changes twice.
    Twice,
    /// Leaves out this many revisions after the first that it sends.
    Gap(u64),
    /// Says nothing after `Opened`, not even a heartbeat.
    SilentAfterOpen,
}

/// What changes whose host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Claim,
    Release,
}

/// What the host is and did. Public to the tests, which set it as they like.
pub(crate) struct Truth {
    pub(crate) host_id: HostId,
    pub(crate) store_id: StoreId,
    pub(crate) owner: Option<EngineId>,
    pub(crate) epoch: u64,
    /// Which start of the owner claimed it; as a host of an older build where none.
    pub(crate) incarnation: Option<Incarnation>,
    /// Why it was last taken over, and by whom.
    pub(crate) taken_over: Option<TakeOver>,
    /// Whether it was claimed or released, each time that it was asked.
    pub(crate) asked: Vec<Asked>,
    /// With which correlation id a storage domain was asked for, each time.
    pub(crate) correlated: Vec<Option<String>>,
    /// With which correlation id each call about a task came.
    pub(crate) told: Vec<(&'static str, Option<String>)>,
    /// What the engine has said of itself, each time.
    pub(crate) met: Vec<Life>,
    /// What it is told of other lives.
    pub(crate) lives: Vec<Life>,
    /// This is heard, and not done or answered as long as it stands here.
    pub(crate) holds: Option<Asked>,
    /// One revision an entry: the task as it then was.
    pub(crate) history: Vec<Task>,
    /// For the streams to come, in order.
    pub(crate) lies: VecDeque<Lie>,
    /// Samples to be sent, in order.
    pub(crate) samples: Vec<words::Progress>,
    /// Whether it would stop its tasks, and what it would undo then.
    pub(crate) stoppable: Option<String>,
    /// How long each `StartTask` takes.
    pub(crate) slowness: Duration,
    /// How many of them are under way, and were at most.
    pub(crate) starting: (usize, usize),
    /// `StartTask` answers with this many statuses that say nothing first.
    pub(crate) unclear_starts: u32,
    /// Refuses to take more tasks than this that are not over.
    pub(crate) limit: Option<usize>,
    /// How many streams were opened, and how many of them after a token.
    pub(crate) streams: (u32, u32),
    /// Streams of an earlier era end.
    pub(crate) era: u32,
}

impl Truth {
    /// How many tasks are not over.
    pub(crate) fn open(&self) -> usize {
        let over = i32::from(words::TaskState::Finished);
        let began = self.history.iter().filter(|task| task.sequence == 1).count();
        began
            - self
                .history
                .iter()
                .filter(|task| task.state == over && !task.removed)
                .count()
    }
}

/// The host.
#[derive(Clone)]
pub(crate) struct Double {
    truth: Arc<Mutex<Truth>>,
    changed: Arc<Notify>,
}

impl Double {
    /// One that listens, and where.
    pub(crate) fn start(host_id: HostId) -> (Self, SocketAddr) {
        let double = Self {
            truth: Arc::new(Mutex::new(Truth {
                host_id,
                store_id: store(1),
                owner: None,
                epoch: 0,
                incarnation: None,
                taken_over: None,
                asked: Vec::new(),
                correlated: Vec::new(),
                told: Vec::new(),
                met: Vec::new(),
                lives: Vec::new(),
                holds: None,
                history: Vec::new(),
                lies: VecDeque::new(),
                samples: Vec::new(),
                stoppable: None,
                slowness: Duration::ZERO,
                starting: (0, 0),
                unclear_starts: 0,
                limit: None,
                streams: (0, 0),
                era: 0,
            })),
            changed: Arc::new(Notify::new()),
        };
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = incoming.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(HostServiceServer::new(double.clone()))
            .add_service(StorageServiceServer::new(double.clone()))
            .add_service(TaskServiceServer::new(double.clone()))
            .serve_with_incoming(incoming.with_nodelay(Some(true)));
        tokio::spawn(server);
        (double, address)
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    /// Notes what is asked, and waits for as long as that is held.
    async fn hear(&self, asked: Asked) {
        self.truth().asked.push(asked);
        while self.truth().holds == Some(asked) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The task takes its next step; starts it where there is none.
    pub(crate) fn advance(&self, task_id: TaskId) -> Task {
        let mut truth = self.truth();
        let last = truth
            .history
            .iter()
            .rev()
            .find(|task| task.task_id == task_id.to_string());
        let mut next = next(task_id, last);
        next.cancelable = truth.stoppable.is_some();
        next.undo = truth.stoppable.clone().unwrap_or_default();
        truth.history.push(next.clone());
        drop(truth);
        self.changed.notify_waiters();
        next
    }

    /// The host says this of a task, true or not.
    pub(crate) fn say(&self, task: Task) {
        self.truth().history.push(task);
        self.changed.notify_waiters();
    }

    /// The task is so far.
    pub(crate) fn report(&self, task_id: TaskId, done_bytes: i64, total_bytes: i64) {
        self.truth().samples.push(words::Progress {
            task_id: task_id.to_string(),
            done_bytes,
            total_bytes,
            percent: 100.0 * done_bytes as f64 / total_bytes as f64,
            ..words::Progress::default()
        });
        self.changed.notify_waiters();
    }

    /// The host loses its memory.
    pub(crate) fn wipe(&self, store_id: StoreId) {
        let mut truth = self.truth();
        truth.store_id = store_id;
        truth.owner = None;
        truth.history.clear();
        drop(truth);
        self.changed.notify_waiters();
    }

    /// All streams that are open end.
    pub(crate) fn cut_streams(&self) {
        self.truth().era += 1;
        self.changed.notify_waiters();
    }

    fn info(&self) -> HostInfo {
        let truth = self.truth();
        HostInfo {
            host_id: truth.host_id.to_string(),
            store_id: truth.store_id.to_string(),
            engine_id: truth.owner.map(|owner| owner.to_string()).unwrap_or_default(),
            engine_epoch: truth.epoch,
            start: format!("{:016x}", START.0),
            engine_incarnation: truth
                .incarnation
                .map(|start| start.to_string())
                .unwrap_or_default(),
            ..HostInfo::default()
        }
    }

    fn current(&self, task_id: &str) -> Option<Task> {
        let truth = self.truth();
        truth
            .history
            .iter()
            .rev()
            .find(|task| task.task_id == task_id)
            .cloned()
    }

    /// Sends frames until the script or the reader ends the stream.
    async fn feed(self, after: Option<Token>, lie: Lie, out: Sender<Result<WatchResponse, Status>>) {
        let mut out = Outgoing { out, lie, sent: 0 };
        let (store_id, era) = {
            let truth = self.truth();
            (truth.store_id, truth.era)
        };
        let opened = words::Opened {
            store_id: store_id.to_string(),
            heartbeat_interval: None,
        };
        if !out.send(Frame::Opened(opened)).await {
            return;
        }
        if lie == Lie::SilentAfterOpen {
            return out.out.closed().await;
        }
        let mut at = match after {
            Some(token) => token.revision.0,
            None => {
                let (items, revision) = self.snapshot();
                for page in items.chunks(3) {
                    let items = page.iter().map(encode::once).collect();
                    if !out.send(Frame::Snapshot(Snapshot { items })).await {
                        return;
                    }
                }
                let token = token(store_id, revision).to_string();
                if !out.send(Frame::SnapshotDone(words::SnapshotDone { token })).await {
                    return;
                }
                revision
            }
        };
        let mut gap = match lie {
            Lie::Gap(revisions) => revisions,
            _ => 0,
        };
        let mut sent = false;
        loop {
            let changed = self.changed.notified();
            let items = std::mem::take(&mut self.truth().samples);
            let samples = words::ProgressSamples { items };
            if !samples.items.is_empty() && !out.send(Frame::Progress(samples)).await {
                return;
            }
            let pending = {
                let truth = self.truth();
                if truth.store_id != store_id {
                    return;
                }
                if truth.era != era {
                    drop(truth);
                    return out.cut();
                }
                truth.history.get(usize::try_from(at).unwrap()).cloned()
            };
            let Some(task) = pending else {
                let token = token(store_id, at).to_string();
                if tokio::time::timeout(Duration::from_millis(50), changed)
                    .await
                    .is_err()
                    && !out.send(Frame::Heartbeat(words::Heartbeat { token })).await
                {
                    return;
                }
                continue;
            };
            at += 1;
            if sent && gap > 0 {
                gap -= 1;
                continue;
            }
            sent = true;
            let changes = Changes {
                revision: at,
                token: token(store_id, at).to_string(),
                commit_time: Some(prost_types::Timestamp::default()),
                items: vec![encode::once(&task)],
                more: false,
            };
            if lie == Lie::Twice && !out.send(Frame::Changes(changes.clone())).await {
                return;
            }
            if !out.send(Frame::Changes(changes)).await {
                return;
            }
        }
    }

    fn snapshot(&self) -> (Vec<Task>, u64) {
        let truth = self.truth();
        let mut tasks = BTreeMap::new();
        for task in &truth.history {
            tasks.insert(task.task_id.clone(), task.clone());
        }
        let shown = tasks.into_values().filter(|task| !task.removed);
        (shown.collect(), truth.history.len() as u64)
    }
}

struct Outgoing {
    out: Sender<Result<WatchResponse, Status>>,
    lie: Lie,
    sent: usize,
}

impl Outgoing {
    fn cut(&self) {
        let _ = self.out.try_send(Err(Status::unavailable("cut")));
    }

    /// Whether the stream goes on.
    async fn send(&mut self, frame: Frame) -> bool {
        if self.lie == Lie::CutAfter(self.sent) {
            let _ = self.out.send(Err(Status::unavailable("cut"))).await;
            return false;
        }
        self.sent += 1;
        self.out
            .send(Ok(WatchResponse { frame: Some(frame) }))
            .await
            .is_ok()
    }
}

/// A store of this number.
pub(crate) fn store(number: u128) -> StoreId {
    StoreId::from_uuid(Uuid::from_u128(0x5_0000 + number))
}

fn token(store_id: StoreId, revision: u64) -> Token {
    Token {
        store_id,
        start: START,
        revision: Revision(revision),
    }
}

/// A task one step further: INIT, PREPARING, QUEUED, RUNNING, FINISHED, and then gone.
fn next(task_id: TaskId, last: Option<&Task>) -> Task {
    let Some(last) = last else {
        return Task {
            task_id: task_id.to_string(),
            operation: Some(words::Operation {
                verb: Some(words::operation::Verb::Noop(words::Noop {})),
            }),
            state: words::TaskState::Init.into(),
            sequence: 1,
            ..Task::default()
        };
    };
    let over = last.state == i32::from(words::TaskState::Finished);
    Task {
        state: if over { last.state } else { last.state + 1 },
        sequence: last.sequence + 1,
        removed: over,
        ..last.clone()
    }
}

#[tonic::async_trait]
impl HostService for Double {
    async fn get_host_info(
        &self,
        _: Request<GetHostInfoRequest>,
    ) -> Result<Response<GetHostInfoResponse>, Status> {
        let host = Some(self.info());
        let forgotten = String::new();
        Ok(Response::new(GetHostInfoResponse { host, forgotten }))
    }

    async fn claim_host(
        &self,
        request: Request<ClaimHostRequest>,
    ) -> Result<Response<ClaimHostResponse>, Status> {
        let engine = Caller::of(&request).unwrap().engine.unwrap();
        self.hear(Asked::Claim).await;
        {
            let mut truth = self.truth();
            truth.owner = Some(engine.engine_id);
            truth.epoch = engine.epoch;
            truth.incarnation = engine.incarnation;
            truth.taken_over = request.into_inner().take_over;
        }
        let host = Some(self.info());
        Ok(Response::new(ClaimHostResponse { host }))
    }

    async fn release_host(
        &self,
        _: Request<ReleaseHostRequest>,
    ) -> Result<Response<ReleaseHostResponse>, Status> {
        self.hear(Asked::Release).await;
        self.truth().owner = None;
        let host = Some(self.info());
        Ok(Response::new(ReleaseHostResponse { host }))
    }

    async fn meet_lives(
        &self,
        request: Request<MeetLivesRequest>,
    ) -> Result<Response<MeetLivesResponse>, Status> {
        let mut truth = self.truth();
        truth.met.extend(request.into_inner().life);
        let lives = truth.lives.clone();
        Ok(Response::new(MeetLivesResponse { lives }))
    }
}

#[tonic::async_trait]
impl TaskService for Double {
    async fn start_task(
        &self,
        request: Request<StartTaskRequest>,
    ) -> Result<Response<StartTaskResponse>, Status> {
        let caller = Caller::of(&request).unwrap();
        let slowness = {
            let mut truth = self.truth();
            truth.told.push(("start", caller.correlation_id));
            let under_way = truth.starting.0 + 1;
            truth.starting = (under_way, truth.starting.1.max(under_way));
            truth.slowness
        };
        tokio::time::sleep(slowness).await;
        self.truth().starting.0 -= 1;
        let request = request.into_inner();
        {
            let mut truth = self.truth();
            if truth.unclear_starts > 0 {
                truth.unclear_starts -= 1;
                return Err(Status::internal("somebody between us failed"));
            }
            if caller.engine.map(|engine| engine.engine_id) != truth.owner {
                let fault = Fault::new(FaultCode::HostOwned, "not yours");
                return Err(status::from_fault(&fault));
            }
            if truth.limit.is_some_and(|limit| truth.open() >= limit) {
                let fault = Fault::new(FaultCode::QueueFull, "1 task waits already");
                return Err(status::from_fault(&fault));
            }
        }
        let task_id: TaskId = request.task_id.parse().unwrap();
        if self.current(&request.task_id).is_none() {
            let mut truth = self.truth();
            let mut first = next(task_id, None);
            first.operation = request.operation;
            first.engine_id = truth.owner.map(|owner| owner.to_string()).unwrap_or_default();
            truth.history.push(first);
            drop(truth);
            self.changed.notify_waiters();
        }
        Ok(Response::new(StartTaskResponse {
            task: self.current(&request.task_id),
            token: String::new(),
        }))
    }

    async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn abort_task(
        &self,
        request: Request<AbortTaskRequest>,
    ) -> Result<Response<AbortTaskResponse>, Status> {
        let who = Caller::of(&request).unwrap();
        self.truth().told.push(("abort", who.correlation_id));
        Err(Status::internal("it does not abort"))
    }

    async fn clear_task(
        &self,
        request: Request<ClearTaskRequest>,
    ) -> Result<Response<ClearTaskResponse>, Status> {
        let who = Caller::of(&request).unwrap();
        self.truth().told.push(("clear", who.correlation_id));
        let task_id: TaskId = request.into_inner().task_id.parse().unwrap();
        let task = Some(self.advance(task_id));
        Ok(Response::new(ClearTaskResponse {
            task,
            token: String::new(),
        }))
    }

    type WatchTasksStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        use words::watch_start::Start as Wire;
        let after = match request.into_inner().start.and_then(|start| start.start) {
            Some(Wire::After(token)) => Some(token.parse::<Token>().unwrap()),
            _ => None,
        };
        let lie = {
            let mut truth = self.truth();
            if after.is_some_and(|token| token.store_id != truth.store_id) {
                return Err(Status::out_of_range("another store"));
            }
            truth.streams.0 += 1;
            truth.streams.1 += u32::from(after.is_some());
            truth.lies.pop_front().unwrap_or(Lie::None)
        };
        let (out, stream) = mpsc::channel(4);
        tokio::spawn(self.clone().feed(after, lie, out));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl StorageService for Double {
    async fn create_storage_domain(
        &self,
        request: Request<CreateStorageDomainRequest>,
    ) -> Result<Response<CreateStorageDomainResponse>, Status> {
        let who = Caller::of(&request).unwrap();
        self.truth().correlated.push(who.correlation_id);
        Ok(Response::new(CreateStorageDomainResponse::default()))
    }

    async fn list_storage_domains(
        &self,
        _: Request<ListStorageDomainsRequest>,
    ) -> Result<Response<ListStorageDomainsResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_storage_domain(
        &self,
        _: Request<GetStorageDomainRequest>,
    ) -> Result<Response<GetStorageDomainResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn format_storage_domain(
        &self,
        _: Request<FormatStorageDomainRequest>,
    ) -> Result<Response<FormatStorageDomainResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_image(&self, _: Request<GetImageRequest>) -> Result<Response<GetImageResponse>, Status> {
        Ok(Response::new(GetImageResponse::default()))
    }

    async fn list_volumes(
        &self,
        _: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_volume(&self, _: Request<GetVolumeRequest>) -> Result<Response<GetVolumeResponse>, Status> {
        Ok(Response::new(GetVolumeResponse::default()))
    }

    async fn probe_operation(
        &self,
        request: Request<ProbeOperationRequest>,
    ) -> Result<Response<ProbeOperationResponse>, Status> {
        let info = self.info();
        Ok(Response::new(ProbeOperationResponse {
            verdict: ProbeVerdict::NotBegun.into(),
            task: self.current(&request.into_inner().task_id),
            store_id: info.store_id,
            start: info.start,
            ..ProbeOperationResponse::default()
        }))
    }
}

//! What many watch: edges in a steady beat, each committed by redb, then sent to every watcher.

use std::path::Path;
use std::pin::Pin;
use std::thread;
use std::time::{Duration, Instant};

use proto::encode;
use proto::encoded::v1::watch_response::Frame;
use proto::encoded::v1::{WatchResponse, watch_response};
use proto::engine::v1::task_service_server::TaskService;
use proto::engine::v1::watch_tasks_response::Changes;
use proto::engine::v1::{
    AsyncTask, GetTaskRequest, GetTaskResponse, Host, ListTasksRequest, ListTasksResponse, WatchTasksRequest,
};
use proto::task::v1::{Heartbeat, Opened};
use tests::TestResult;
use tokio::sync::broadcast;
use tokio::time::{Instant as TokioInstant, interval_at};
use tokio_stream::wrappers::{BroadcastStream, IntervalStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::commit::{BareStore, Batch};
use super::server::unserved;
use crate::{clock, records};

/// As the services' for clients.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Edges that a watcher may be behind: none is while the machine keeps up.
const BEHIND: usize = 1_024;

/// The stream of the engine's tasks, with no engine.
#[derive(Debug)]
pub(super) struct FanOut {
    edges: broadcast::Sender<Changes>,
}

impl FanOut {
    /// An edge in each `beat`; none without one.
    ///
    /// # Errors
    /// Where the database cannot be made.
    pub(super) fn start(data_dir: &Path, beat: Option<Duration>) -> TestResult<Self> {
        let edges = broadcast::Sender::new(BEHIND);
        if let Some(beat) = beat {
            let store = BareStore::create(data_dir)?;
            let edges = edges.clone();
            thread::spawn(move || publish(store, beat, &edges));
        }
        Ok(Self { edges })
    }
}

/// Those that are due share a commit, and no more is done than that.
fn publish(mut store: BareStore, beat: Duration, edges: &broadcast::Sender<Changes>) {
    let host = Host {
        host_id: tests::ids::fresh(),
        cursor: records::TOKEN.to_owned(),
        ..Host::default()
    };
    let mut due = Instant::now() + beat;
    let mut slot = 0;
    loop {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut frames = Vec::new();
        while due <= Instant::now() {
            frames.push(changes(slot, records::async_task(&host.host_id)));
            due += beat;
            slot += 1;
        }
        let revisions = frames
            .iter()
            .flat_map(|changes| changes.items.iter().map(|task| (changes.revision, task)));
        let revisions = revisions.map(|(slot, task)| records::engine_revision(slot, task, &host));
        if store.commit(&Batch::new(revisions)).is_err() {
            return;
        }
        for changes in frames {
            // Nobody need watch.
            let _ = edges.send(changes);
        }
    }
}

fn changes(slot: u64, task: AsyncTask) -> Changes {
    Changes {
        revision: slot,
        token: records::TOKEN.to_owned(),
        commit_time: Some(clock::now()),
        items: vec![task],
        more: false,
    }
}

fn encoded(changes: &Changes) -> watch_response::Changes {
    watch_response::Changes {
        revision: changes.revision,
        token: changes.token.clone(),
        commit_time: changes.commit_time,
        items: changes.items.iter().map(encode::once).collect(),
        more: changes.more,
    }
}

#[tonic::async_trait]
impl TaskService for FanOut {
    type WatchTasksStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch_tasks(
        &self,
        _: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let opened = Frame::Opened(Opened {
            store_id: tests::ids::fresh(),
            heartbeat_interval: None,
        });
        let edges = BroadcastStream::new(self.edges.subscribe()).map(|changes| {
            let changes = changes.map_err(|_| Status::out_of_range("too far behind"))?;
            // As any stream of its own does: for each watcher anew.
            Ok::<_, Status>(Frame::Changes(encoded(&changes)))
        });
        let beats = interval_at(TokioInstant::now() + HEARTBEAT, HEARTBEAT);
        let beats = IntervalStream::new(beats).map(|_| {
            let token = records::TOKEN.to_owned();
            Ok(Frame::Heartbeat(Heartbeat { token }))
        });
        let frames = tokio_stream::once(Ok(opened)).chain(edges.merge(beats));
        let frames = frames.map(|frame| frame.map(|frame| WatchResponse { frame: Some(frame) }));
        Ok(Response::new(Box::pin(frames)))
    }

    async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        Err(unserved())
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        Err(unserved())
    }
}

//! The five Watch RPCs, each as the same thing: a stream of [`Frame`]s about one kind of [`Item`].

use std::future::Future;
use std::pin::Pin;

use prost_types::Duration;
use proto::engine::v1 as engine;
use proto::host::v1 as vdsm;
use proto::task::v1::{WatchStart, watch_start};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use tonic::transport::Channel;

use super::record::{Changes, Frame};
use crate::words;

/// How often the services are to say that they are alive: quick, so that a test sees tokens come.
const HEARTBEAT: Duration = Duration {
    seconds: 0,
    nanos: 200_000_000,
};

/// Where a watch starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With a snapshot.
    Snapshot,
    /// With the next change.
    Now,
    /// After a token.
    After(String),
}

impl From<Start> for WatchStart {
    fn from(start: Start) -> Self {
        let start = match start {
            Start::Snapshot => watch_start::Start::Snapshot(()),
            Start::Now => watch_start::Start::Now(()),
            Start::After(token) => watch_start::Start::After(token),
        };
        Self { start: Some(start) }
    }
}

/// What a watch selects; all of it where everything is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The one correlation id.
    pub correlation_id: String,
}

impl Selection {
    /// Whether it selects this item.
    pub fn selects<I: Item>(&self, item: &I) -> bool {
        self.correlation_id.is_empty() || item.correlation_id() == self.correlation_id
    }
}

/// What a watch is about.
pub trait Item: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// What it is called in a report.
    const NAME: &'static str;
    /// Whether each of its changes carries the number after the last one. Otherwise they only rise.
    const DENSE: bool;
    /// Single facts that share one rising count, and not things that change.
    const FACTS: bool = false;
    /// Its id.
    fn key(&self) -> String;
    /// What it bears of whoever asked for it.
    fn correlation_id(&self) -> &str;
    /// Its count of changes.
    fn sequence(&self) -> u64;
    /// Its state in words; empty for what has none.
    fn state(&self) -> String;
    /// Whether that state is an end.
    fn is_over(&self) -> bool;
    /// Whether it says that it is gone.
    fn is_removed(&self) -> bool;
    /// Whether it says that states before this one were missed.
    fn is_resynced(&self) -> bool {
        false
    }
}

/// A stream of frames.
pub type Frames<I> = Pin<Box<dyn Stream<Item = Result<Frame<I>, Status>> + Send>>;

/// One Watch RPC.
pub trait Watch: Send + 'static {
    /// What it is about.
    type Item: Item;

    /// Opens a stream.
    fn open(
        channel: Channel,
        start: Start,
        selection: &Selection,
    ) -> impl Future<Output = Result<Frames<Self::Item>, Status>> + Send;
}

macro_rules! watch {
    ($(#[$doc:meta])* $name:ident, $item:ty, $package:ident, $client:ident, $service:ident, $rpc:ident, $request:ident, $filter:ident, $response:ident, $frame:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Watch for $name {
            type Item = $item;

            async fn open(channel: Channel, start: Start, selection: &Selection) -> Result<Frames<$item>, Status> {
                use $package::$frame::Frame as Wire;
                let request = $package::$request {
                    filter: Some($package::$filter::Filter {
                        correlation_id: selection.correlation_id.clone(),
                        ..Default::default()
                    }),
                    start: Some(start.into()),
                    heartbeat_interval: Some(HEARTBEAT),
                    include_progress: true,
                    ..$package::$request::default()
                };
                let stream = $package::$client::$service::new(channel).$rpc(request).await?.into_inner();
                Ok(Box::pin(stream.map(|response| {
                    let frame = response?.frame.ok_or_else(|| Status::data_loss("a frame of no kind that this build knows"))?;
                    Ok(match frame {
                        Wire::Opened(opened) => Frame::Opened { store_id: opened.store_id },
                        Wire::Snapshot(page) => Frame::Snapshot(page.items),
                        Wire::SnapshotDone(done) => Frame::SnapshotDone { token: done.token },
                        Wire::Changes(changes) => Frame::Changes(Changes {
                            revision: changes.revision,
                            token: changes.token,
                            commit_time: changes.commit_time,
                            items: changes.items,
                            more: changes.more,
                        }),
                        Wire::Progress(samples) => Frame::Progress(samples.items),
                        Wire::Heartbeat(beat) => Frame::Heartbeat { token: beat.token },
                        Wire::Closing(closing) => Frame::Closing { reason: closing.reason(), token: closing.token },
                    })
                })))
            }
        }
    };
}

watch!(
    /// `vdsm_engine.engine.v1.CommandService.WatchCommands`.
    Commands, engine::Command, engine, command_service_client, CommandServiceClient, watch_commands,
    WatchCommandsRequest, watch_commands_request, WatchCommandsResponse, watch_commands_response
);
watch!(
    /// `vdsm_engine.engine.v1.TaskService.WatchTasks`.
    Tasks, engine::AsyncTask, engine, task_service_client, TaskServiceClient, watch_tasks,
    WatchTasksRequest, watch_tasks_request, WatchTasksResponse, watch_tasks_response
);
watch!(
    /// `vdsm_engine.engine.v1.JobService.WatchJobs`.
    Jobs, engine::Job, engine, job_service_client, JobServiceClient, watch_jobs,
    WatchJobsRequest, watch_jobs_request, WatchJobsResponse, watch_jobs_response
);
watch!(
    /// `vdsm_engine.engine.v1.EventService.WatchEvents`.
    Events, engine::Event, engine, event_service_client, EventServiceClient, watch_events,
    WatchEventsRequest, watch_events_request, WatchEventsResponse, watch_events_response
);
watch!(
    /// `vdsm_engine.host.v1.TaskService.WatchTasks`.
    HostTasks, vdsm::Task, vdsm, task_service_client, TaskServiceClient, watch_tasks,
    WatchTasksRequest, watch_tasks_request, WatchTasksResponse, watch_tasks_response
);

impl Item for engine::Command {
    const NAME: &'static str = "command";
    const DENSE: bool = true;

    fn key(&self) -> String {
        self.command_id.clone()
    }

    fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn state(&self) -> String {
        words::command_state(self.state)
    }

    fn is_over(&self) -> bool {
        words::command_is_over(self.state)
    }

    fn is_removed(&self) -> bool {
        self.removed
    }
}

impl Item for engine::AsyncTask {
    const NAME: &'static str = "async task";
    const DENSE: bool = true;

    fn key(&self) -> String {
        self.task_id.clone()
    }

    fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn state(&self) -> String {
        words::task_state(self.state)
    }

    fn is_over(&self) -> bool {
        words::task_is_over(self.state)
    }

    fn is_removed(&self) -> bool {
        self.removed
    }

    fn is_resynced(&self) -> bool {
        self.resynced
    }
}

impl Item for engine::Job {
    const NAME: &'static str = "job";
    // One revision may change several parts of the tree, and each counts.
    const DENSE: bool = false;

    fn key(&self) -> String {
        self.job_id.clone()
    }

    fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn state(&self) -> String {
        words::command_state(self.state)
    }

    fn is_over(&self) -> bool {
        words::command_is_over(self.state)
    }

    fn is_removed(&self) -> bool {
        self.removed
    }
}

impl Item for engine::Event {
    const NAME: &'static str = "event";
    const DENSE: bool = false;
    const FACTS: bool = true;

    // All events are one thing that grows: their ids are its sequence.
    fn key(&self) -> String {
        String::new()
    }

    fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    fn sequence(&self) -> u64 {
        self.event_id
    }

    fn state(&self) -> String {
        String::new()
    }

    fn is_over(&self) -> bool {
        false
    }

    fn is_removed(&self) -> bool {
        false
    }
}

impl Item for vdsm::Task {
    const NAME: &'static str = "host task";
    const DENSE: bool = true;

    fn key(&self) -> String {
        self.task_id.clone()
    }

    fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn state(&self) -> String {
        words::task_state(self.state)
    }

    fn is_over(&self) -> bool {
        words::task_is_over(self.state)
    }

    fn is_removed(&self) -> bool {
        self.removed
    }
}

//! The stream of a host's tasks: every frame goes to the engine as an input of its own, in order. If the engine is
//! slower than the host, the stream waits: nothing is dropped, and nothing accumulates.

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::revision::Token;
use engine_core::input::{Frame, Input};
use prost_types::Duration as WireDuration;
use proto::host::v1::task_service_client::TaskServiceClient;
use proto::host::v1::{WatchTasksRequest, WatchTasksResponse};
use proto::task::v1::{Progress, WatchStart, watch_start};
use runtime::{clock, status};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use tracing::{debug, warn};

use super::backoff::Pauses;
use super::call::Connection;
use super::frame::{self, Seen};
use super::refusal::Refusal;
use super::room::Room;
use super::session::End;
use super::{Context, Link};
use crate::store;

/// The number of missed heartbeats after which the host counts as away.
const MISSED_HEARTBEATS: u32 = 3;

/// How one stream ended.
enum Ended {
    /// Begin again with a snapshot, because the engine asked for one, or because the host no longer has the point.
    Resync,
    /// Go on after the last token.
    Resume,
    /// The connection can be used no longer.
    Connection(End),
}

/// Reads the host's stream, again and again, as long as the connection can be used.
pub(super) async fn read(context: &Context, connection: &Connection, resync: &Notify, room: &Room) -> End {
    let mut pauses = Pauses::new();
    let mut reading = match Reading::begin(context, connection, room).await {
        Ok(reading) => reading,
        Err(end) => return end,
    };
    loop {
        let begun = Instant::now();
        let ended = tokio::select! {
            // A request for a snapshot comes first: the rest of the old stream is useless then.
            biased;
            () = resync.notified() => Ended::Resync,
            ended = reading.stream() => ended,
        };
        match ended {
            Ended::Resync => {
                debug!("the stream begins again with a snapshot");
                context.links.tally().begins_anew();
                reading.after = None;
            }
            Ended::Resume => {
                pauses.lasted(begun.elapsed());
                tokio::time::sleep(pauses.wait()).await;
            }
            Ended::Connection(end) => return end,
        }
    }
}

struct Reading<'a> {
    context: &'a Context,
    connection: &'a Connection,
    room: &'a Room,
    /// The last point that the engine was given; none before a snapshot.
    after: Option<Token>,
    /// Whether the links show the host as connected.
    up_to_date: bool,
}

impl<'a> Reading<'a> {
    /// Resumes after the engine's last commit, if that is a point in this store of the host.
    async fn begin(context: &'a Context, connection: &'a Connection, room: &'a Room) -> Result<Self, End> {
        let after = store::host::cursor(&context.log, connection.host_id)
            .await
            .map_err(|error| End::Away(Fault::new(FaultCode::StoreUnavailable, error.to_string())))?;
        Ok(Self {
            context,
            connection,
            room,
            after: after.filter(|token| token.store_id == connection.store_id),
            up_to_date: false,
        })
    }

    async fn stream(&mut self) -> Ended {
        let silence = self.context.heartbeat_interval * MISSED_HEARTBEATS;
        let mut stream = match timeout(silence, self.open()).await {
            Err(_) => return silent(silence),
            Ok(Err(status)) => return ended(&status, self.after.is_some()),
            Ok(Ok(stream)) => stream,
        };
        loop {
            let frame = match timeout(silence, stream.message()).await {
                Err(_) => return silent(silence),
                Ok(Err(status)) => return ended(&status, self.after.is_some()),
                Ok(Ok(None)) => return Ended::Resume,
                Ok(Ok(Some(response))) => frame::read(response.frame),
            };
            match frame {
                Seen::Opened(Some(store_id)) if store_id != self.connection.store_id => {
                    return Ended::Connection(End::Again);
                }
                Seen::Opened(_) => {
                    if let Err(end) = self.forward(Frame::Opened).await {
                        return Ended::Connection(end);
                    }
                    if self.after.is_some() {
                        self.is_up_to_date();
                    }
                }
                Seen::Closing | Seen::Unknown | Seen::Heartbeat { whole: false } => {}
                Seen::Heartbeat { whole: true } => self.is_up_to_date(),
                Seen::Progress(samples) => self.report(&samples),
                Seen::Frame(frame, token) => {
                    self.look_for_room(&frame);
                    if let Err(end) = self.forward(frame).await {
                        return Ended::Connection(end);
                    }
                    if token.is_some() {
                        self.after = token;
                        self.is_up_to_date();
                    }
                }
            }
        }
    }

    /// The host has accepted the point to resume after, or nothing up to a later point is missing.
    fn is_up_to_date(&mut self) {
        if !std::mem::replace(&mut self.up_to_date, true) {
            let links = &self.context.links;
            links.note(self.connection.host_id, Link::Connected, clock::now());
        }
    }

    async fn open(&self) -> Result<Streaming<WatchTasksResponse>, Status> {
        let start = match self.after {
            Some(token) => watch_start::Start::After(token.to_string()),
            None => watch_start::Start::Snapshot(()),
        };
        let request = WatchTasksRequest {
            filter: None,
            start: Some(WatchStart { start: Some(start) }),
            ended_within: None,
            heartbeat_interval: WireDuration::try_from(self.context.heartbeat_interval).ok(),
            include_progress: true,
        };
        let mut client = TaskServiceClient::new(self.connection.channel.clone());
        // The host knows by this header who is connected.
        let mut request = tonic::Request::new(request);
        self.connection.call.attach(&mut request, None);
        Ok(client.watch_tasks(request).await?.into_inner())
    }

    /// A task that is over leaves its place in the host's queue to another one.
    fn look_for_room(&self, frame: &Frame) {
        if let Frame::Changes { tasks, .. } = frame {
            let over = tasks
                .iter()
                .filter(|task| task.state.is_terminal() && !task.removed);
            over.for_each(|_| self.room.task_ended());
        }
    }

    async fn forward(&self, frame: Frame) -> Result<(), End> {
        let input = Input::Observed {
            host_id: self.connection.host_id,
            store_id: self.connection.store_id,
            start: self.connection.start,
            frame,
        };
        let sent = self.context.engine.send(input).await;
        sent.map_err(|refusal| End::Away(Fault::new(FaultCode::ShuttingDown, refusal.to_string())))
    }

    /// The progress of a task never decreases, although a host may report less after a restart than before.
    fn report(&self, samples: &[Progress]) {
        let links = self.context.log.progress();
        for sample in samples {
            let Ok(task_id) = sample.task_id.parse() else {
                continue;
            };
            let behind = links
                .newest(task_id)
                .is_some_and(|last| last.percent > sample.percent);
            if !behind {
                links.relay(task_id, sample);
            }
        }
    }
}

fn silent(silence: Duration) -> Ended {
    let words = format!("the host has sent nothing for {} s", silence.as_secs_f32());
    Ended::Connection(End::Away(Fault::new(FaultCode::HostAway, words)))
}

/// Only a resumed stream can be out of range: a snapshot resumes after no point.
fn ended(status: &Status, resumed: bool) -> Ended {
    if status.code() == Code::OutOfRange && resumed {
        warn!(
            message = status.message(),
            "the host's history no longer reaches back to the point up to which it was followed"
        );
        return Ended::Resync;
    }
    match status::fault_of(status) {
        // The engine has released the host, or claims it again with the next connection.
        Some((fault, _)) if fault.code == FaultCode::HostNotOwned => Ended::Connection(End::Again),
        _ => Ended::Connection(Refusal::of(status).into()),
    }
}

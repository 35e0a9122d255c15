//! A simulated host's `WatchTasks`: the frames of the contract, as fast as the peer takes them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::revision::Token;
use proto::encode;
use proto::encoded::v1::WatchResponse;
use proto::encoded::v1::watch_response::{Frame, Snapshot};
use proto::host::v1::WatchTasksRequest;
use proto::task::v1::watch_start::Start;
use proto::task::v1::{Heartbeat, Opened, SnapshotDone};
use tokio::time::Interval;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::history::History;

/// The contract's default between services.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Tasks in a page of a snapshot: some hundred kilobytes.
const PAGE: usize = 500;

/// See the module.
pub(super) struct Frames {
    history: Arc<History>,
    opening: VecDeque<Frame>,
    /// Everything up to this revision was sent.
    cursor: usize,
    visible: usize,
    shown: WatchStream<usize>,
    heartbeat: Interval,
}

impl Frames {
    /// As the request asks.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for a point of another history.
    pub(super) fn open(history: Arc<History>, request: WatchTasksRequest) -> Result<Self, Status> {
        let visible = *history.shown().borrow();
        let (store_id, _) = history.identity();
        let mut opening = VecDeque::from([Frame::Opened(Opened {
            store_id: store_id.to_string(),
            heartbeat_interval: request.heartbeat_interval,
        })]);
        let start = request.start.and_then(|start| start.start);
        let cursor = match start {
            Some(Start::After(token)) => after(&history, visible, &token)?,
            Some(Start::Now(())) => visible,
            Some(Start::Snapshot(())) | None => {
                let tasks = history.snapshot(visible);
                opening.extend(tasks.chunks(PAGE).map(|page| {
                    let items = page.iter().map(encode::once).collect();
                    Frame::Snapshot(Snapshot { items })
                }));
                let token = history.token_at(visible);
                opening.push_back(Frame::SnapshotDone(SnapshotDone { token }));
                visible
            }
        };
        let pause = request.heartbeat_interval.and_then(|pause| pause.try_into().ok());
        Ok(Self {
            opening,
            cursor,
            visible,
            shown: WatchStream::new(history.shown()),
            heartbeat: tokio::time::interval(pause.unwrap_or(HEARTBEAT)),
            history,
        })
    }

    fn next_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(frame) = self.opening.pop_front() {
            return Poll::Ready(Some(frame));
        }
        while self.cursor >= self.visible {
            match Pin::new(&mut self.shown).poll_next(cx) {
                Poll::Ready(Some(visible)) => self.visible = visible,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let token = self.history.token_at(self.cursor);
                    let due = self.heartbeat.poll_tick(cx);
                    return due.map(|_| Some(Frame::Heartbeat(Heartbeat { token })));
                }
            }
        }
        let changes = self.history.after(self.cursor);
        self.cursor += 1;
        Poll::Ready(Some(Frame::Changes(changes)))
    }
}

impl Stream for Frames {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = self.next_frame(cx);
        frame.map(|frame| frame.map(|frame| Ok(WatchResponse { frame: Some(frame) })))
    }
}

fn after(history: &History, visible: usize, token: &str) -> Result<usize, Status> {
    let token: Token = token
        .parse()
        .map_err(|_| Status::invalid_argument("not a token"))?;
    let revision = usize::try_from(token.revision.0).unwrap_or(usize::MAX);
    if (token.store_id, token.start) != history.identity() || revision > visible {
        return Err(Status::out_of_range("a point of another history"));
    }
    Ok(revision)
}

//! What each Watch RPC shows of the engine's history, through one client's filter.

mod command;
mod event;
mod job;
mod pages;
mod task;

pub(crate) use command::CommandFeed;
pub(crate) use event::EventFeed;
pub(crate) use job::JobFeed;
pub(crate) use task::TaskFeed;

/// A frame of the watch server as a frame of one RPC: the RPCs differ in nothing but the type of their items.
macro_rules! response {
    ($frame:expr, $module:ident, $response:ident) => {{
        use proto::engine::v1::{$module as wire, $response};
        use runtime::watch::Frame;
        let frame = match $frame {
            Frame::Opened(opened) => wire::Frame::Opened(opened),
            Frame::Snapshot(items) => wire::Frame::Snapshot(wire::Snapshot { items }),
            Frame::SnapshotDone(done) => wire::Frame::SnapshotDone(done),
            Frame::Changes {
                revision,
                token,
                time,
                items,
                more,
            } => wire::Frame::Changes(wire::Changes {
                revision: revision.0,
                token: token.map(|token| token.to_string()).unwrap_or_default(),
                commit_time: Some(proto::convert::timestamp(time)),
                items,
                more,
            }),
            Frame::Progress(samples) => wire::Frame::Progress(samples),
            Frame::Heartbeat(heartbeat) => wire::Frame::Heartbeat(heartbeat),
            Frame::Closing(closing) => wire::Frame::Closing(closing),
        };
        $response { frame: Some(frame) }
    }};
}
pub(crate) use response;

//! A bare tonic stream: one process sends a change now and then, another receives it. What one hop costs when
//! nothing of ours is on the way.

use std::pin::Pin;
use std::time::Duration;

use proto::encode;
use proto::encoded::v1::WatchResponse;
use proto::encoded::v1::watch_response::{Changes, Frame};
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::{clock, records};

/// Between two changes: long against a hop, so that each travels alone.
const PAUSE: Duration = Duration::from_millis(2);

/// What a watch sends.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// Changes of a size as a host sends them, each with the time at which it was sent.
pub(super) fn frames() -> Frames {
    let task = records::host_task(tests::ids::fresh(), Some(records::noop()));
    let frames = IntervalStream::new(tokio::time::interval(PAUSE)).map(move |_| {
        let changes = Changes {
            revision: 1,
            token: records::TOKEN.to_owned(),
            commit_time: Some(clock::now()),
            items: vec![encode::once(&task)],
            more: false,
        };
        Ok(WatchResponse {
            frame: Some(Frame::Changes(changes)),
        })
    });
    Box::pin(frames)
}

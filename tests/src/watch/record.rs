//! What arrived on one watch, in order.

use std::collections::BTreeMap;
use std::time::SystemTime;

use prost_types::Timestamp;
use proto::task::v1::Progress;
use proto::task::v1::closing::Reason;

use super::rpc::{Item, Start};

/// A revision as one frame showed it.
#[derive(Debug, Clone)]
pub struct Changes<I> {
    /// The revision's number.
    pub revision: u64,
    /// Resume after this; empty while `more`.
    pub token: String,
    /// When it was committed.
    pub commit_time: Option<Timestamp>,
    /// The changed items, in order.
    pub items: Vec<I>,
    /// More of the revision follows.
    pub more: bool,
}

/// A frame, or what happened to the stream between two frames.
#[derive(Debug, Clone)]
pub enum Frame<I> {
    /// A stream is asked for.
    Asked {
        /// Where it is to start.
        start: Start,
    },
    /// The first frame.
    Opened {
        /// Whose history it is.
        store_id: String,
    },
    /// A page of the snapshot.
    Snapshot(Vec<I>),
    /// The snapshot is complete.
    SnapshotDone {
        /// Up to here.
        token: String,
    },
    /// A revision.
    Changes(Changes<I>),
    /// The newest samples.
    Progress(Vec<Progress>),
    /// Nothing up to this point is missing.
    Heartbeat {
        /// The point.
        token: String,
    },
    /// The server ends the stream on purpose.
    Closing {
        /// The reason that the server gave.
        reason: Reason,
        /// The point to resume after.
        token: String,
    },
    /// The stream ended.
    Lost {
        /// In words.
        why: String,
    },
    /// The service said that it cannot resume after the token: the next stream starts with a snapshot.
    OutOfRange,
}

impl<I> Frame<I> {
    /// The point that it allows to resume after.
    pub fn token(&self) -> Option<&str> {
        let token = match self {
            Self::SnapshotDone { token } | Self::Heartbeat { token } | Self::Closing { token, .. } => token,
            Self::Changes(changes) => &changes.token,
            _ => return None,
        };
        (!token.is_empty()).then_some(token)
    }
}

/// A frame and when it came.
#[derive(Debug, Clone)]
pub struct Arrived<I> {
    /// By the wall clock, which the services' commit times are of.
    pub at: SystemTime,
    /// What came.
    pub frame: Frame<I>,
}

/// Everything that one watch was told.
#[derive(Debug, Clone)]
pub struct Record<I> {
    /// In the order of arrival.
    pub frames: Vec<Arrived<I>>,
}

impl<I> Default for Record<I> {
    fn default() -> Self {
        Self { frames: Vec::new() }
    }
}

impl<I: Item> Record<I> {
    /// Every item of every snapshot and revision, in order.
    pub fn items(&self) -> impl Iterator<Item = &I> {
        items(&self.frames)
    }

    /// Each item as it was last told, in the history that the watch is in: what was told before it had to begin anew
    /// may be of a store that is gone, and is in no snapshot where it has ended since.
    pub fn latest(&self) -> BTreeMap<String, &I> {
        let anew = |arrived: &Arrived<I>| matches!(arrived.frame, Frame::OutOfRange);
        let begin = self.frames.iter().rposition(anew).unwrap_or_default();
        let items = items(&self.frames[begin..]);
        items.map(|item| (item.key(), item)).collect()
    }

    /// Every change of one item, in order.
    pub fn history(&self, key: &str) -> Vec<&I> {
        self.items().filter(|item| item.key() == key).collect()
    }

    /// The last point that the client may resume after.
    pub fn token(&self) -> Option<&str> {
        self.frames.iter().rev().find_map(|arrived| arrived.frame.token())
    }

    /// How many streams were opened.
    pub fn streams(&self) -> usize {
        let opened = |arrived: &&Arrived<I>| matches!(arrived.frame, Frame::Opened { .. });
        self.frames.iter().filter(opened).count()
    }
}

fn items<I>(frames: &[Arrived<I>]) -> impl Iterator<Item = &I> {
    frames.iter().flat_map(|arrived| match &arrived.frame {
        Frame::Snapshot(items) => items.as_slice(),
        Frame::Changes(changes) => changes.items.as_slice(),
        _ => &[],
    })
}

//! Many who watch an engine's tasks, and how long each edge took to each of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto::engine::v1::AsyncTask;
use tests::client::Engine;
use tests::patience::eventually;
use tests::{Failure, TestResult};
use tokio::task::JoinSet;

use crate::clock;
use crate::watcher::Watcher;

/// Connections that are opened side by side.
const OPENERS: usize = 16;

/// Those who watch, until this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    seen: Arc<Seen>,
    readers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    count: AtomicUsize,
    micros: Mutex<Vec<f64>>,
}

impl Seen {
    fn all(&self, tasks: &[AsyncTask]) {
        let times = tasks.iter().filter_map(|task| task.host_commit_time.as_ref());
        let took: Vec<f64> = times.map(clock::micros_since).collect();
        let mut micros = self.micros.lock().unwrap_or_else(PoisonError::into_inner);
        micros.extend(&took);
        self.count.fetch_add(took.len(), Ordering::Relaxed);
    }
}

impl Crowd {
    /// `connections` with `each` streams: returns when all are open. They see what changes from then on.
    ///
    /// # Errors
    /// Where one is refused.
    pub(crate) async fn gather(address: SocketAddr, connections: usize, each: usize) -> TestResult<Self> {
        let mut opening = JoinSet::new();
        let mut watchers = Vec::with_capacity(connections * each);
        for _ in 0..connections {
            if opening.len() >= OPENERS {
                watchers.extend(opened(opening.join_next().await)?);
            }
            opening.spawn(async move {
                let client = Engine::at(address)?;
                let mut watchers = Vec::with_capacity(each);
                for _ in 0..each {
                    watchers.push(Watcher::open(&client).await?);
                }
                Ok(watchers)
            });
        }
        while !opening.is_empty() {
            watchers.extend(opened(opening.join_next().await)?);
        }
        let seen = Arc::<Seen>::default();
        let mut readers = JoinSet::new();
        for mut watcher in watchers {
            let seen = Arc::clone(&seen);
            readers.spawn(async move {
                while let Ok(tasks) = watcher.changes().await {
                    seen.all(&tasks);
                }
            });
        }
        Ok(Self { seen, readers })
    }

    /// Waits until so many edges were seen by all of them together since the last time, and returns the
    /// microseconds that each took from its host's stamp.
    ///
    /// # Errors
    /// Where they are not seen within reason.
    pub(crate) async fn saw(&self, edges: usize) -> TestResult<Vec<f64>> {
        let what = format!("{} watchers to see {edges} edges", self.readers.len());
        eventually(&what, || {
            std::future::ready((self.seen.count.load(Ordering::Relaxed) >= edges).then_some(()))
        })
        .await?;
        Ok(self.forget())
    }

    /// The microseconds of the edges that were seen since the last time.
    pub(crate) fn forget(&self) -> Vec<f64> {
        let mut micros = self.seen.micros.lock().unwrap_or_else(PoisonError::into_inner);
        self.seen.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *micros)
    }
}

fn opened(
    joined: Option<Result<TestResult<Vec<Watcher>>, tokio::task::JoinError>>,
) -> TestResult<Vec<Watcher>> {
    joined
        .ok_or_else(|| Failure::new("nobody opens watches"))?
        .map_err(Failure::new)?
}

//! A client of the engine's `WatchTasks`.

use proto::engine::v1::watch_tasks_response::Frame;
use proto::engine::v1::{AsyncTask, WatchTasksRequest, WatchTasksResponse};
use proto::task::v1::{WatchStart, watch_start};
use tests::client::Engine;
use tests::{Context as _, TestResult};
use tonic::Streaming;

/// One stream.
pub(crate) struct Watcher {
    stream: Streaming<WatchTasksResponse>,
    /// The last that brought changes.
    pub(crate) revision: u64,
}

impl Watcher {
    /// Sees every change from now on.
    ///
    /// # Errors
    /// Where the engine refuses.
    pub(crate) async fn open(client: &Engine) -> TestResult<Self> {
        let request = WatchTasksRequest {
            start: Some(WatchStart {
                start: Some(watch_start::Start::Now(())),
            }),
            ..WatchTasksRequest::default()
        };
        let stream = client
            .tasks
            .clone()
            .watch_tasks(request)
            .await
            .context("WatchTasks")?;
        let mut watcher = Self {
            stream: stream.into_inner(),
            revision: 0,
        };
        // `Opened`: from here on nothing is missed.
        watcher.frame().await?;
        Ok(watcher)
    }

    /// The items of the next frame that brings changes.
    ///
    /// # Errors
    /// Where the stream ends.
    pub(crate) async fn changes(&mut self) -> TestResult<Vec<AsyncTask>> {
        loop {
            if let Some(Frame::Changes(changes)) = self.frame().await? {
                self.revision = changes.revision;
                return Ok(changes.items);
            }
        }
    }

    /// Reads on until so many changes were as wanted, and returns those.
    ///
    /// # Errors
    /// Where the stream ends.
    pub(crate) async fn until(
        &mut self,
        count: usize,
        wanted: impl Fn(&AsyncTask) -> bool,
    ) -> TestResult<Vec<AsyncTask>> {
        let mut seen = Vec::with_capacity(count);
        while seen.len() < count {
            seen.extend(self.changes().await?.into_iter().filter(&wanted));
        }
        Ok(seen)
    }

    async fn frame(&mut self) -> TestResult<Option<Frame>> {
        let message = self.stream.message().await.context("the engine's stream")?;
        Ok(message.context("the engine's stream ended")?.frame)
    }
}

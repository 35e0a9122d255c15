//! A stream that ends as soon as the host belongs to another engine than the one that opened it.

use std::pin::Pin;
use std::task::{Context, Poll};

use common::fault::Fault;
use futures_core::Stream;
use runtime::status;
use tonic::Status;

/// Completes, with the reason, when the stream must end.
type Fence = Pin<Box<dyn Future<Output = Fault> + Send>>;

/// A stream with its fence.
pub(super) struct Fenced<S> {
    /// None once the stream has ended.
    stream: Option<S>,
    /// None if no engine opened the stream.
    fence: Option<Fence>,
}

impl<S> Fenced<S> {
    pub(super) fn new(stream: S, fence: Option<impl Future<Output = Fault> + Send + 'static>) -> Self {
        Self {
            stream: Some(stream),
            fence: fence.map(|fence| Box::pin(fence) as Fence),
        }
    }
}

impl<T, S: Stream<Item = Result<T, Status>> + Unpin> Stream for Fenced<S> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The fence comes first: items that are ready are not for an engine that no longer has the host.
        if let Some(fence) = &mut self.fence
            && let Poll::Ready(fault) = fence.as_mut().poll(context)
        {
            tracing::info!(%fault, "ending the stream of an engine");
            (self.stream, self.fence) = (None, None);
            return Poll::Ready(Some(Err(status::from_fault(&fault))));
        }
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

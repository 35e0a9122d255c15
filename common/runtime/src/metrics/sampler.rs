//! What can be told only by who may block: sizes on disk, above all of storage that does not answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::threads;

/// Takes a sample at each page, one at a time. A page waits for it for a moment; one that is late is shown on the next page,
/// and the one before it meanwhile.
pub struct Sampler<T> {
    take: Box<dyn Fn() -> T + Send + Sync>,
    last: Mutex<Option<(Instant, T)>>,
    busy: AtomicBool,
}

impl<T: Clone + Send + 'static> Sampler<T> {
    /// `take` may block.
    pub fn new(take: impl Fn() -> T + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            take: Box::new(take),
            last: Mutex::new(None),
            busy: AtomicBool::new(false),
        })
    }

    /// Begins to take a sample, unless one is being taken.
    pub(super) fn begin(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return None;
        }
        let sampler = Arc::clone(self);
        Some(threads::blocking(move || {
            // Also where taking one panics: then the next page tries again.
            let _idle = Idle(&sampler.busy);
            let sample = (sampler.take)();
            *sampler.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), sample));
        }))
    }

    /// The last sample, and how old it is.
    pub fn last(&self) -> Option<(Duration, T)> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(at, sample)| (at.elapsed(), sample.clone()))
    }
}

struct Idle<'a>(&'a AtomicBool);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> std::fmt::Debug for Sampler<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").finish_non_exhaustive()
    }
}

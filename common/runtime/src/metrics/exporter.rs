//! Who has something to tell.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{Page, Sampler};

/// How long a page waits for what is read from disk.
const PATIENCE: Duration = Duration::from_millis(500);

type Source = Box<dyn Fn(&mut Page) + Send + Sync>;
type Begin = Box<dyn Fn() -> Option<tokio::task::JoinHandle<()>> + Send + Sync>;

/// The sources of a service's pages. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Exporter {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Default)]
struct Inner {
    sources: Vec<Source>,
    samplers: Vec<Begin>,
}

impl Exporter {
    /// Shows from now on what `source` puts on a page. It must not wait for a disk, nor for anybody who does.
    pub fn add(&self, source: impl Fn(&mut Page) + Send + Sync + 'static) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.sources.push(Box::new(source));
    }

    /// Shows from now on what `source` makes of samples, as [`Sampler`] says.
    pub fn add_sampled<T: Clone + Send + 'static>(
        &self,
        sampler: Arc<Sampler<T>>,
        source: impl Fn(&mut Page, Duration, T) + Send + Sync + 'static,
    ) {
        let taken = Arc::clone(&sampler);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.samplers.push(Box::new(move || sampler.begin()));
        inner.sources.push(Box::new(move |page| {
            if let Some((age, sample)) = taken.last() {
                source(page, age, sample);
            }
        }));
    }

    /// Makes a page.
    pub async fn page(&self) -> String {
        let begun: Vec<_> = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            inner.samplers.iter().filter_map(|begin| begin()).collect()
        };
        let all = async {
            for sample in begun {
                // One that panicked has no sample, and is begun again with the next page.
                let _ = sample.await;
            }
        };
        // What is late is on the next page.
        let _ = tokio::time::timeout(PATIENCE, all).await;
        let mut page = Page::default();
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        for source in &inner.sources {
            source(&mut page);
        }
        page.into_text()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

//! Reads from the committed picture, off the threads that serve.

use runtime::store::{Reader, StoreError};
use runtime::threads;

use super::Log;

/// Runs `read` on the last committed picture, where it may block on the disk.
///
/// # Errors
/// What `read` says, and [`StoreError`] if the picture cannot be opened.
pub(crate) async fn on<T: Send + 'static>(
    log: &Log,
    read: impl FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = log.store().clone();
    let task = threads::blocking(move || read(&*store.reader()?));
    task.await
        .unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a read ended early: {error}"))))
}

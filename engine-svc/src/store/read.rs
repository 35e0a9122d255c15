//! Reads from the committed snapshot, on other threads than those that serve.

use runtime::reads;
use store::{Reader, StoreError};

use super::Log;

/// Runs `read` on the last committed snapshot, on a thread that may block on the disk.
///
/// # Errors
/// The errors of `read`, and [`StoreError`] if the snapshot cannot be opened.
pub(crate) async fn on<T: Send + 'static>(
    log: &Log,
    read: impl FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    reads::on(log.store().clone(), read).await
}

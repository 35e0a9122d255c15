//! Reads for callers: off the threads that serve, so many at a time, and no longer than somebody waits for them.

use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;

use crate::server::{Present, present};
use crate::store::{Order, Pair, Reader, Store, StoreError, Table};
use crate::threads;

/// Runs `read` on the last committed picture, where it may block on the disk. For a call that is served it waits for
/// the call's turn, and stops where the caller has gone.
///
/// # Errors
/// What `read` says, and [`StoreError`] if the picture cannot be opened.
pub async fn on<T: Send + 'static>(
    store: Arc<dyn Store>,
    read: impl FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    in_turn(false, move |call| {
        let reader = store.reader()?;
        match call {
            Some(call) => read(&While { reader, call }),
            None => read(&*reader),
        }
    })
    .await
}

/// Runs `work` where it may block, as [`on`] does. It is given the call that it is for.
///
/// # Errors
/// What `work` says; [`StoreError::Unwanted`] where nobody waits for it when its turn has come.
pub(crate) fn in_turn<T: Send + 'static>(
    is_long: bool,
    work: impl FnOnce(Option<Present>) -> Result<T, StoreError> + Send + 'static,
) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
    let call = present();
    async move {
        let turn = match &call {
            Some(call) => Some(call.turn(is_long).await),
            None => None,
        };
        let task = threads::blocking(move || {
            // Given back when the work has ended, whether or not it is waited for.
            let _turn = turn;
            if call.as_ref().is_some_and(Present::is_gone) {
                return Err(StoreError::Unwanted);
            }
            work(call)
        });
        let early = |error| StoreError::Unavailable(format!("a read ended early: {error}"));
        task.await.unwrap_or_else(|error| Err(early(error)))
    }
}

/// Tells that a list leaves something out, unless the list as a whole is given up.
pub fn left_out(error: &StoreError, what: &str) {
    if !matches!(error, StoreError::Unwanted) {
        tracing::error!(%error, "{what} is left out");
    }
}

/// A reader that stops when nobody waits for it any more.
struct While {
    reader: Box<dyn Reader>,
    call: Present,
}

impl While {
    fn wanted(&self) -> Result<&dyn Reader, StoreError> {
        if self.call.is_gone() {
            return Err(StoreError::Unwanted);
        }
        Ok(&*self.reader)
    }
}

impl Reader for While {
    fn revision(&self) -> common::revision::Revision {
        self.reader.revision()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.wanted()?.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        self.wanted()?.scan(table, range, order, limit)
    }
}

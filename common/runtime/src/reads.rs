//! Reads for callers: off the threads that serve, so many at a time, and no longer than somebody waits for them.

use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;

use common::fault::Fault;
use store::{Order, Pair, Reader, Store, StoreError, Table};
use tokio::sync::oneshot;

use crate::server::{Held, Present, Turn, present};
use crate::threads;

/// Runs `read` on the last committed snapshot, where it may block on the disk. For a call that is served it waits for
/// the call's turn, and stops where the caller has gone.
///
/// # Errors
/// What `read` says, and [`StoreError`] if the snapshot cannot be opened.
pub async fn on<T: Send + 'static>(
    store: Arc<dyn Store>,
    read: impl FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    in_turn(false, move |turn| {
        let reader = store.reader()?;
        match turn {
            Some(turn) => read(&InTurn { reader, turn }),
            None => read(&*reader),
        }
    })
    .await
}

/// The call that a read is for, and its turn.
pub(crate) struct ReadFor<'t> {
    call: &'t Present,
    turn: &'t Turn,
}

impl ReadFor<'_> {
    /// Counts memory that was read for the call, and that it holds from now on.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Option<Held>, Fault> {
        self.call.hold(bytes)
    }
}

/// Runs `work` where it may block, as [`on`] does. It is given the call that it is for.
///
/// # Errors
/// What `work` says; [`StoreError::Unwanted`] where nobody waits for it when its turn has come.
pub(crate) fn in_turn<T: Send + 'static>(
    is_long: bool,
    work: impl FnOnce(Option<ReadFor<'_>>) -> Result<T, StoreError> + Send + 'static,
) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
    let call = present();
    async move {
        let (answer, answered) = oneshot::channel();
        let Some(call) = call else {
            threads::blocking(move || drop(answer.send(work(None))));
            return answered.await.unwrap_or_else(|_| Err(broke_off()));
        };
        let reading = call.clone();
        let in_turn = move |turn: Turn| {
            let outcome = match reading.is_gone() {
                true => Err(StoreError::Unwanted),
                false => work(Some(ReadFor {
                    call: &reading,
                    turn: &turn,
                })),
            };
            let turn = reading.has_read(turn);
            // Nobody may wait for it any more.
            let _ = answer.send(outcome);
            turn
        };
        // Waits until the end, and no longer than this is waited for.
        let _waiting = call.in_turn(is_long, in_turn).ok_or(StoreError::Unwanted)?;
        answered.await.unwrap_or_else(|_| Err(broke_off()))
    }
}

fn broke_off() -> StoreError {
    StoreError::Unavailable("a read failed; see the service's log".to_owned())
}

/// Tells that a list leaves something out, unless the list as a whole is given up.
pub fn left_out(error: &StoreError, what: &str) {
    if !matches!(error, StoreError::Unwanted) {
        tracing::error!(%error, "{what} cannot be read and is left out");
    }
}

/// A reader that stops when nobody waits for it any more, and lets others go ahead.
struct InTurn<'t> {
    reader: Box<dyn Reader + Send>,
    turn: ReadFor<'t>,
}

impl InTurn<'_> {
    fn go_on(&self) -> Result<&dyn Reader, StoreError> {
        self.turn.turn.pause();
        if self.turn.call.is_gone() {
            return Err(StoreError::Unwanted);
        }
        Ok(&*self.reader)
    }
}

impl Reader for InTurn<'_> {
    fn revision(&self) -> common::revision::Revision {
        self.reader.revision()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.go_on()?.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        self.go_on()?.scan(table, range, order, limit)
    }
}

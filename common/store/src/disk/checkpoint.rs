//! The thread that writes the content of the write-ahead log into the tables.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::lock::Lock;
use super::manifest::Manifest;
use super::memtable::Memtable;
use super::tables::Tables;
use super::version::Version;
use super::{Shared, WriteState, at};
use crate::StoreError;

/// The first wait before a failed checkpoint is retried; doubled up to [`RETRY_AT_MOST`].
const RETRY_AT_FIRST: Duration = Duration::from_millis(10);

/// A disk that comes back is noticed within this.
const RETRY_AT_MOST: Duration = Duration::from_secs(1);

/// Notifies waiters that the thread has ended, even by a panic.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.write_state();
        state
            .stuck
            .get_or_insert_with(|| "the thread that writes the tables has ended".to_owned());
        state.ended = true;
        self.0.done.notify_all();
    }
}

/// What is needed to close a data directory.
pub(super) struct Closing {
    pub dir: PathBuf,
    pub manifest: Manifest,
    /// Keeps the data directory locked until then.
    pub _lock: Lock,
}

/// Exclusive access to the tables.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    tables: Tables,
    closing: Closing,
    /// The previous memtable. Freeing it takes milliseconds, which must not happen to a reader that uses it briefly.
    retired: Option<Arc<RwLock<Memtable>>>,
}

impl Checkpointer {
    pub(super) fn new(shared: Arc<Shared>, tables: Tables, closing: Closing) -> Self {
        Self {
            shared,
            tables,
            closing,
            retired: None,
        }
    }

    /// Runs until the store is dropped. Then everything is in the tables, unless they cannot be written: the next
    /// start replays the rest.
    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        loop {
            let mut state = self.due();
            if !state.frozen {
                if state.waiting_since.is_none() {
                    break;
                }
                if state.in_doubt {
                    // What follows must not be taken for a continuation. The next commit reopens the log.
                    if state.stopping {
                        return;
                    }
                    drop(self.wait_for(RETRY_AT_MOST, state));
                    continue;
                }
                if let Err(error) = self.shared.freeze(&mut state) {
                    tracing::error!(%error, "the write-ahead log cannot switch to its other file");
                    if state.stopping {
                        return;
                    }
                    // Whoever commits opens it again.
                    drop(self.wait_for(RETRY_AT_MOST, state));
                    continue;
                }
            }
            drop(state);
            if !self.persist() {
                return;
            }
        }
        self.close();
    }

    /// The log is not needed any more: everything in it is in the tables.
    fn close(self) {
        let last = self.shared.update_version(|version| {
            version.replace(None);
            version.revision()
        });
        drop(self.tables);
        if self.shared.dir.check().is_err() {
            // Another directory may have the name. The next start on this one replays its log.
            return;
        }
        if let Err(error) = self.closing.manifest.closed(last).write(&self.closing.dir) {
            tracing::warn!(%error, "the store could not be closed: the next start will replay the write-ahead log");
        }
    }

    /// Waits for work: a file of the log is full, something has been in the log long enough, or the store is dropped.
    fn due(&self) -> MutexGuard<'_, WriteState> {
        let shared = &*self.shared;
        let mut state = shared.write_state();
        loop {
            if state.stopping || state.frozen {
                return state;
            }
            let Some(since) = state.waiting_since else {
                state = shared.wait(&shared.due, state);
                continue;
            };
            let left = shared.checkpoint_every.saturating_sub(since.elapsed());
            if left.is_zero() {
                return state;
            }
            state = self.wait_for(left, state);
        }
    }

    /// Writes the frozen memtable into the tables, however long it takes; returns false only if the store was dropped
    /// meanwhile.
    fn persist(&mut self) -> bool {
        let mut pause = RETRY_AT_FIRST;
        loop {
            let Err(error) = self.checkpoint() else {
                return true;
            };
            tracing::error!(%error, "the store's tables cannot be written; trying again");
            let shared = Arc::clone(&self.shared);
            // Whoever notices that waits for the next attempt.
            shared.throttle.hurry();
            let mut state = shared.write_state();
            state.stuck = Some(error.to_string());
            state.hurry = false;
            shared.done.notify_all();
            if state.stopping {
                return false;
            }
            if !state.hurry {
                state = self.wait_for(pause, state);
            }
            drop(state);
            pause = (pause * 2).min(RETRY_AT_MOST);
            if let Err(error) = self.reopen() {
                tracing::warn!(%error, "the store's tables cannot be opened again");
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let (frozen, oldest) = shared.version().frozen();
        let Some(frozen) = frozen else { return Ok(()) };
        self.retired = None;
        (shared.passes)("checkpoint.before");
        let more = {
            let memtable = frozen.read().unwrap_or_else(PoisonError::into_inner);
            // Commits have continued with the next generation.
            let generation = shared.write_state().wal.generation() - 1;
            self.tables
                .apply(&memtable, shared.identity.start, generation, oldest)?
        };
        (shared.passes)("checkpoint.after");
        let snapshot = self.tables.snapshot()?;
        shared.update_version(|version| version.install(snapshot));
        self.retired = Some(frozen);
        let mut state = shared.write_state();
        state.frozen = false;
        state.frozen_since = None;
        state.hurry = false;
        if state.stuck.take().is_some() {
            tracing::info!("the store's tables can be written again");
        }
        if more && !state.stopping {
            shared.remind(&mut state);
        }
        shared.done.notify_all();
        Ok(())
    }

    /// After an error the database accepts no writes until it is reopened.
    fn reopen(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        // By its name another store would be opened or created.
        shared.dir.check()?;
        shared.reserve.give_up_if_full();
        let probed = self.tables.probe().or_else(|error| match error.kind() {
            // The file system has free space, but we may not use it.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                shared.reserve.give_up();
                self.tables.probe()
            }
            _ => Err(error),
        });
        // Until then the old one serves reads.
        probed.map_err(|error| at(self.tables.path(), &error))?;
        // Readers wait for it.
        shared.update_version(|version: &mut Version| {
            version.replace(None);
            self.tables.reopen()?;
            version.replace(Some(self.tables.snapshot()?));
            Ok(())
        })
    }

    fn wait_for<'a>(&self, time: Duration, state: MutexGuard<'a, WriteState>) -> MutexGuard<'a, WriteState> {
        let waited = self.shared.due.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

//! A store on disk. A batch is durable when it is in the write-ahead log. The content of the log is also in memory,
//! in a memtable, and a checkpoint writes it into the tables later: many batches in one transaction, by a thread with
//! exclusive access to the tables. Reads see both as one.
//!
//! ```text
//!            commit                 memtables        checkpoint
//!   batch ──────────▶ log (durable) ─▶ active ─▶ frozen ─────▶ tables (redb)
//!                                        ▲          ▲            ▲
//!   snapshot ────────────────────────────┴──────────┴────────────┘
//! ```
//!
//! After a crash the log is first replayed into the tables, once all parts have proved that they belong together and
//! are intact (docs/adr/0014).

mod backup;
mod check;
mod checkpoint;
mod compression;
mod consistency;
mod frame;
mod lock;
mod manifest;
mod memtable;
mod named_dir;
mod open;
mod options;
mod overlay;
mod preflight;
mod repair;
mod reserve;
mod seal;
mod tables;
mod throttle;
mod throttled_file;
mod verify;
mod version;
mod wal;

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::revision::{Revision, Start};

pub use self::backup::{Backup, BackupSummary, back_up_stopped};
pub use self::check::{Report, check};
use self::checkpoint::{Checkpointer, Closing};
use self::named_dir::NamedDir;
use self::open::Opened;
pub use self::options::{Options, Owner};
pub use self::repair::{Salvaged, repair};
use self::reserve::Reserve;
use self::throttle::Throttle;
use self::version::{Snapshot, Version};
use self::wal::Wal;
use super::starts::Starts;
use super::{Commit, Identity, Reader, Recorded, StartSpan, Store, StoreError, StoreFigures};

/// How long to wait for the end of a transaction before the files are saved as they are, as after a crash.
const SAVED_ANYWAY: Duration = Duration::from_secs(10);

/// A store in a data directory of its own; the module has the overview.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    checkpointer: Option<JoinHandle<()>>,
}

/// State shared by commits, readers and the checkpointer. If both locks are taken, that of `write_state` comes first.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    /// Whose store this is, as in the manifest: the service, and which one of them.
    owner: (String, String),
    starts: Starts,
    reserve: Reserve,
    dir: NamedDir,
    /// The throttle of the checkpointer.
    throttle: Arc<Throttle>,
    checkpoint_every: Duration,
    passes: fn(&str),
    write_state: Mutex<WriteState>,
    /// The checkpointer has something to do.
    due: Condvar,
    /// The checkpointer has done something, or could not.
    done: Condvar,
    version: RwLock<Version>,
}

/// The state of writing and checkpointing.
#[derive(Debug)]
struct WriteState {
    wal: Wal,
    /// A frame in the log that may or may not be on disk.
    in_doubt: bool,
    /// Since when something is only in the log, or is left to trim.
    waiting_since: Option<Instant>,
    /// There is a frozen memtable, whose content is in the log's other segment.
    frozen: bool,
    /// Since when something of that has been in the log only.
    frozen_since: Option<Instant>,
    /// Why the checkpointer cannot continue.
    stuck: Option<String>,
    /// It is to retry at once.
    hurry: bool,
    /// The store is dropped.
    stopping: bool,
    /// The checkpointer is gone.
    ended: bool,
}

impl DiskStore {
    /// Opens or creates the store of a data directory, and records a new start.
    ///
    /// # Errors
    /// [`StoreError`], among others if another process has it open.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, StoreError> {
        let throttle = Arc::new(Throttle::new());
        let Opened {
            lock,
            manifest,
            tables,
            wal,
            reserve,
            identity,
            starts,
        } = open::open(dir, &options, &throttle)?;
        let named = NamedDir::of(
            dir,
            &[manifest::FILE, tables::FILE],
            &[wal::FILES[0], wal::FILES[1], seal::FILE],
        );
        let shared = Arc::new(Shared {
            identity,
            owner: (manifest.service.clone(), manifest.owner.clone()),
            starts,
            reserve,
            dir: named.map_err(|error| at(dir, &error))?,
            throttle,
            checkpoint_every: options.checkpoint_every,
            passes: options.passes,
            write_state: Mutex::new(WriteState {
                wal,
                in_doubt: false,
                waiting_since: None,
                frozen: false,
                frozen_since: None,
                stuck: None,
                hurry: false,
                stopping: false,
                ended: false,
            }),
            due: Condvar::new(),
            done: Condvar::new(),
            version: RwLock::new(Version::of(tables.snapshot()?)?),
        });
        let closing = Closing {
            dir: dir.to_owned(),
            manifest,
            _lock: lock,
        };
        let checkpointer = Checkpointer::new(Arc::clone(&shared), tables, closing);
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || checkpointer.run())
            .map_err(|error| StoreError::Unavailable(format!("no thread for checkpoints: {error}")))?;
        Ok(Arc::new(Self {
            shared,
            checkpointer: Some(thread),
        }))
    }
}

impl Shared {
    fn write_state(&self) -> MutexGuard<'_, WriteState> {
        self.write_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, event: &Condvar, state: MutexGuard<'a, WriteState>) -> MutexGuard<'a, WriteState> {
        event.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self) -> RwLockReadGuard<'_, Version> {
        self.version.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.version().snapshot()
    }

    fn update_version<T>(&self, change: impl FnOnce(&mut Version) -> T) -> T {
        change(&mut self.version.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands the content of the log to the checkpointer; commits continue with the other segment.
    ///
    /// # Errors
    /// Then the log has to be reopened.
    fn freeze(&self, state: &mut WriteState) -> Result<(), StoreError> {
        debug_assert!(!state.frozen, "the other segment is in use");
        let base = self.version().revision();
        state.wal.rotate(base).map_err(|error| {
            state.in_doubt = true;
            log_failed(&error)
        })?;
        self.update_version(Version::freeze);
        match state.stopping {
            true => self.throttle.hurry(),
            false => self.throttle.ease(),
        }
        state.frozen = true;
        state.frozen_since = state.waiting_since.take().or_else(|| Some(Instant::now()));
        Ok(())
    }

    /// Notifies the checkpointer of work, now or later.
    fn remind(&self, state: &mut WriteState) {
        if state.waiting_since.is_none() {
            state.waiting_since = Some(Instant::now());
            self.due.notify_one();
        }
    }
}

impl Store for DiskStore {
    fn identity(&self) -> Identity {
        self.shared.identity
    }

    fn commit(&self, batch: Arc<[Commit]>) -> Result<(), StoreError> {
        let Some(last) = batch.last().map(|commit| commit.revision) else {
            return Ok(());
        };
        let shared = &*self.shared;
        let mut state = shared.write_state();
        if state.in_doubt {
            return Err(StoreError::Unavailable(
                "the write-ahead log failed before, and was not opened again".to_owned(),
            ));
        }
        super::follows(shared.version().revision(), &batch)?;
        while !state.wal.prepare(&batch) {
            if !state.frozen {
                shared.freeze(&mut state)?;
                shared.due.notify_one();
            } else if let Some(why) = &state.stuck {
                return Err(StoreError::Unavailable(format!(
                    "the write-ahead log is full: {why}"
                )));
            } else {
                shared.throttle.hurry();
                state = shared.wait(&shared.done, state);
            }
        }
        if let Err(error) = state.wal.append() {
            state.in_doubt = true;
            return Err(log_failed(&error));
        }
        // Only now: `look_after` reports what is lost after this.
        if let Err(error) = shared.dir.check_soon() {
            state.wal.reject();
            state.in_doubt = true;
            return Err(error);
        }
        state.wal.seal(last);
        if state.frozen && state.wal.is_half_full() {
            // Before anybody has to wait.
            shared.throttle.hurry();
        }
        let active = shared.version().active();
        version::insert(&active, batch);
        shared.update_version(|version| version.advance(last));
        shared.remind(&mut state);
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError> {
        Ok(Box::new(self.shared.snapshot()?))
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.shared
            .snapshot()?
            .history(after, limit, self.shared.identity.start)
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.snapshot()?.oldest())
    }

    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError> {
        let current = self.shared.snapshot()?.revision();
        Ok(self.shared.starts.find(start, current))
    }

    fn trim(&self, through: Revision) -> Result<bool, StoreError> {
        // Need not be durable: what a crash brings back is trimmed again.
        if self.shared.update_version(|version| version.trim(through)) {
            self.shared.remind(&mut self.shared.write_state());
        }
        Ok(false)
    }

    fn has_room(&self) -> bool {
        // In a directory that is not ours nothing is made.
        self.shared.dir.last().is_err() || self.shared.reserve.is_held()
    }

    fn trouble(&self) -> Result<(), StoreError> {
        self.shared.dir.last()
    }

    fn look_after(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let looked = shared.dir.check();
        if looked.is_err() && shared.dir.wants_saving() {
            // No commit runs while this is held, and no transaction if nothing is frozen.
            let state = shared.write_state();
            let began = Instant::now();
            let quiet = |state: &WriteState| !state.frozen || state.ended || began.elapsed() > SAVED_ANYWAY;
            let mut state = state;
            while !quiet(&state) {
                let waited = shared.done.wait_timeout(state, SAVED_ANYWAY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            shared.dir.save();
            return shared.dir.last();
        }
        looked
    }

    fn figures(&self) -> StoreFigures {
        let shared = &*self.shared;
        let (free_bytes, total_bytes, table_bytes) = shared.reserve.space(tables::FILE);
        let unwritten_revisions = shared.version().unwritten();
        let has_room = self.has_room();
        let state = shared.write_state();
        let (log_fill, log_bytes) = state.wal.fill();
        let since = state.frozen_since.or(state.waiting_since);
        StoreFigures {
            in_doubt: state.in_doubt,
            has_room,
            free_bytes,
            total_bytes,
            table_bytes,
            log_bytes,
            log_fill,
            unwritten_revisions,
            unwritten_for: since.map_or(Duration::ZERO, |since| since.elapsed()),
            stuck: state.stuck.is_some(),
        }
    }

    fn back_up(&self, out: &mut dyn io::Write) -> Result<(), StoreError> {
        let snapshot = self.shared.snapshot()?;
        let (service, owner) = &self.shared.owner;
        let store_id = self.shared.identity.store_id;
        let header = backup::Header::new(service, owner, Some(store_id), snapshot.revision());
        backup::write(&header, out, |take| snapshot.walk(take))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        shared.dir.check()?;
        let mut state = shared.write_state();
        if state.in_doubt {
            shared.reserve.give_up_if_full();
            state.wal.discard_tail().map_err(|error| log_failed(&error))?;
            state.in_doubt = false;
        }
        if state.stuck.is_some() {
            state.hurry = true;
            shared.due.notify_one();
            while state.hurry && !state.ended {
                state = shared.wait(&shared.done, state);
            }
        }
        match &state.stuck {
            Some(why) => Err(StoreError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.shared.write_state().stopping = true;
        self.shared.throttle.hurry();
        self.shared.due.notify_one();
        if let Some(thread) = self.checkpointer.take() {
            // If it panicked, the next start replays the rest.
            let _ = thread.join();
        }
    }
}

fn log_failed(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the write-ahead log: {error}"))
}

/// A part of the store is damaged.
fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "{} {what}. The files of a data directory belong together: put all of them back from one copy, or see what \
         `repair` can save",
        path.display()
    ))
}

fn at(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

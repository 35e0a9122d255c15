//! A store on disk. A batch is durable when it is in the write-ahead log; what is in the log is brought into the
//! tables later, many batches in one transaction, by a thread that has them for itself. Reads see both as one.
//!
//! ```text
//!            commit                             checkpoint
//!   batch ──────────▶ log (durable) ──▶ active ─────────▶ frozen ─▶ tables (redb)
//!                                          ▲                 ▲          ▲
//!   reader ────────────────────────────────┴─────────────────┴──────────┘
//! ```
//!
//! After a crash the log is brought into the tables before anything else, once all pieces have proved that they belong together and are
//! whole (docs/adr/0014).

mod check;
mod checkpoint;
mod frame;
mod home;
mod layer;
mod lock;
mod manifest;
mod open;
mod overlay;
mod pace;
mod paced_file;
mod pack;
mod picture;
mod repair;
mod reserve;
mod seal;
mod tables;
mod touched;
mod verify;
mod wal;

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::revision::{Revision, Start};

use uuid::Uuid;

pub use self::check::{Report, check};
use self::checkpoint::{Checkpointer, Closing};
use self::home::Home;
use self::open::Opened;
use self::pace::Pace;
use self::picture::{Picture, View};
pub use self::repair::{Saved, repair};
use self::reserve::Reserve;
use self::wal::Wal;
use super::spans::Spans;
use super::{Commit, Identity, Kinship, Reader, Recorded, StartSpan, Store, StoreError};

/// How long the end of a transaction is waited for before the files are saved as they are: as after a crash.
const SAVED_ANYWAY: Duration = Duration::from_secs(10);

/// Whose data directory it is: the store of another service, or of another one of the same, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The name of the program.
    pub service: &'static str,
    /// The host's or engine's id, where it is known before the store is opened.
    pub id: Option<Uuid>,
}

impl Owner {
    /// A service of which there is no telling which.
    pub const fn service(service: &'static str) -> Self {
        Self { service, id: None }
    }
}

/// How a store on disk is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whose it is.
    pub owner: Owner,
    /// Bytes of the tables that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of each of the two files of the write-ahead log: of so much are reads served from memory, and so much
    /// is read again after a crash, at most twice. As much as both hold is held back of the disk.
    pub wal_bytes: u64,
    /// How long a revision may be in the log only, where it does not fill up.
    pub checkpoint_every: Duration,
    /// Which records are packed as one.
    pub kinship: Kinship,
    /// Told by name of each point of a checkpoint that is passed: there tests end the process.
    pub passes: fn(&str),
}

impl Options {
    /// The usual ones.
    pub const fn of(owner: Owner) -> Self {
        Self {
            owner,
            cache_bytes: 64 << 20,
            // Each transaction of the tables writes the pages that its keys fall into anew, and while it is synced
            // everybody waits: fewer and larger ones are cheaper, and hold up fewer.
            wal_bytes: 32 << 20,
            checkpoint_every: Duration::from_secs(4),
            kinship: |_, _| None,
            passes: |_| {},
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    checkpointer: Option<JoinHandle<()>>,
}

/// What those who commit, those who read and the checkpointer have in common. Who takes both locks takes the desk's
/// first.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    spans: Spans,
    reserve: Reserve,
    home: Home,
    /// The checkpointer's.
    pace: Arc<Pace>,
    checkpoint_every: Duration,
    passes: fn(&str),
    desk: Mutex<Desk>,
    /// The checkpointer has something to do.
    due: Condvar,
    /// The checkpointer has done something, or could not.
    done: Condvar,
    view: RwLock<View>,
}

/// What is written, and what is to be done about it.
#[derive(Debug)]
struct Desk {
    wal: Wal,
    /// A frame in the log of which nobody knows whether it is on disk.
    in_doubt: bool,
    /// Since when something has been in the log only, or has been left to trim.
    waiting_since: Option<Instant>,
    /// There is a frozen layer, and the log's other file holds it.
    frozen: bool,
    /// Why the checkpointer cannot go on.
    stuck: Option<String>,
    /// Somebody wants it to try again at once.
    hurry: bool,
    /// The store is dropped.
    stopping: bool,
    /// The checkpointer is gone.
    ended: bool,
}

impl DiskStore {
    /// Opens or makes the store of a data directory, and records a new start.
    ///
    /// # Errors
    /// [`StoreError`], among others where another process has it open.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, StoreError> {
        let pace = Arc::new(Pace::new());
        let Opened {
            lock,
            manifest,
            tables,
            wal,
            reserve,
            identity,
            spans,
        } = open::open(dir, &options, &pace)?;
        let home = Home::of(
            dir,
            &[
                manifest::FILE,
                tables::FILE,
                wal::FILES[0],
                wal::FILES[1],
                seal::FILE,
            ],
        );
        let shared = Arc::new(Shared {
            identity,
            spans,
            reserve,
            home: home.map_err(|error| at(dir, &error))?,
            pace,
            checkpoint_every: options.checkpoint_every,
            passes: options.passes,
            desk: Mutex::new(Desk {
                wal,
                in_doubt: false,
                waiting_since: None,
                frozen: false,
                stuck: None,
                hurry: false,
                stopping: false,
                ended: false,
            }),
            due: Condvar::new(),
            done: Condvar::new(),
            view: RwLock::new(View::of(tables.snapshot()?)?),
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
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, event: &Condvar, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        event.wait(desk).unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn picture(&self) -> Result<Picture, StoreError> {
        self.view().picture()
    }

    fn change_view<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is in the log only is from now on the checkpointer's; who commits goes on with the other file.
    ///
    /// # Errors
    /// The log has to be opened again then.
    fn freeze(&self, desk: &mut Desk) -> Result<(), StoreError> {
        debug_assert!(!desk.frozen, "the other file is in use");
        let base = self.view().revision();
        desk.wal.switch(base).map_err(|error| {
            desk.in_doubt = true;
            log_failed(&error)
        })?;
        self.change_view(View::freeze);
        match desk.stopping {
            true => self.pace.hurry(),
            false => self.pace.ease(),
        }
        desk.frozen = true;
        desk.waiting_since = None;
        Ok(())
    }

    /// There is something for the checkpointer, sooner or later.
    fn remind(&self, desk: &mut Desk) {
        if desk.waiting_since.is_none() {
            desk.waiting_since = Some(Instant::now());
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
        let mut desk = shared.desk();
        if desk.in_doubt {
            return Err(StoreError::Unavailable(
                "the write-ahead log failed before, and was not opened again".to_owned(),
            ));
        }
        super::follows(shared.view().revision(), &batch)?;
        while !desk.wal.prepare(&batch) {
            if !desk.frozen {
                shared.freeze(&mut desk)?;
                shared.due.notify_one();
            } else if let Some(why) = &desk.stuck {
                return Err(StoreError::Unavailable(format!(
                    "the write-ahead log is full: {why}"
                )));
            } else {
                shared.pace.hurry();
                desk = shared.wait(&shared.done, desk);
            }
        }
        if let Err(error) = desk.wal.append() {
            desk.in_doubt = true;
            return Err(log_failed(&error));
        }
        // Only now: what is lost after this is told by who looks after the store.
        if let Err(error) = shared.home.check_soon() {
            desk.wal.reject();
            desk.in_doubt = true;
            return Err(error);
        }
        desk.wal.seal(last);
        if desk.frozen && desk.wal.is_half_full() {
            // Before anybody has to wait.
            shared.pace.hurry();
        }
        let active = shared.view().active();
        picture::push(&active, batch);
        shared.change_view(|view| view.advance(last));
        shared.remind(&mut desk);
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError> {
        Ok(Box::new(self.shared.picture()?))
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.shared
            .picture()?
            .history(after, limit, self.shared.identity.start)
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.picture()?.oldest())
    }

    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError> {
        let current = self.shared.picture()?.revision();
        Ok(self.shared.spans.find(start, current))
    }

    fn trim(&self, through: Revision) -> Result<bool, StoreError> {
        // Need not be durable: what a crash brings back is trimmed again.
        if self.shared.change_view(|view| view.trim(through)) {
            self.shared.remind(&mut self.shared.desk());
        }
        Ok(false)
    }

    fn has_room(&self) -> bool {
        // In a directory that is not ours nothing is made.
        self.shared.home.last().is_err() || self.shared.reserve.is_held()
    }

    fn trouble(&self) -> Result<(), StoreError> {
        self.shared.home.last()
    }

    fn look_after(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let looked = shared.home.check();
        if looked.is_err() && shared.home.wants_saving() {
            // Nobody commits while the desk is held, and no transaction is under way where nothing is frozen.
            let desk = shared.desk();
            let began = Instant::now();
            let quiet = |desk: &Desk| !desk.frozen || desk.ended || began.elapsed() > SAVED_ANYWAY;
            let mut desk = desk;
            while !quiet(&desk) {
                let waited = shared.done.wait_timeout(desk, SAVED_ANYWAY);
                desk = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            shared.home.save();
            return shared.home.last();
        }
        looked
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        shared.home.check()?;
        let mut desk = shared.desk();
        if desk.in_doubt {
            shared.reserve.give_up_if_full();
            desk.wal.take_back().map_err(|error| log_failed(&error))?;
            desk.in_doubt = false;
        }
        if desk.stuck.is_some() {
            desk.hurry = true;
            shared.due.notify_one();
            while desk.hurry && !desk.ended {
                desk = shared.wait(&shared.done, desk);
            }
        }
        match &desk.stuck {
            Some(why) => Err(StoreError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.shared.desk().stopping = true;
        self.shared.pace.hurry();
        self.shared.due.notify_one();
        if let Some(thread) = self.checkpointer.take() {
            // If it ended by a defect, the next start takes in what it left.
            let _ = thread.join();
        }
    }
}

fn log_failed(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the write-ahead log: {error}"))
}

/// A piece of the store is not what it has to be.
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

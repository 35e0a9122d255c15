//! Disks that wear out: a change to storage, or a commit to a store, that fails now and then while the storm lasts.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use vdsm_storage::file::{FileCall, FileHook};

use crate::trace::Trace;

/// One in so many changes to storage fails. A volume takes some twenty.
const CHANGES: u32 = 250;

/// One in so many commits fails.
const COMMITS: u32 = 150;

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing of it is there.
    Before,
    /// All of it is there, and nobody was told.
    After,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Wear(Arc<Inner>);

struct Inner {
    random: Mutex<StdRng>,
    /// While the storm lasts.
    wears: AtomicBool,
    changes_failed: AtomicU32,
    trace: Trace,
}

impl Wear {
    pub(crate) fn of(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Inner {
            // Threads in lockstep draw from it too, so it has numbers of its own.
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            wears: AtomicBool::new(false),
            changes_failed: AtomicU32::new(0),
            trace,
        }))
    }

    /// Whether things fail from now on.
    pub(crate) fn wears(&self, wears: bool) {
        self.0.wears.store(wears, Ordering::SeqCst);
    }

    /// Whether a change to storage ever failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.changes_failed.load(Ordering::SeqCst) > 0
    }

    /// How the next commit fails, if it does.
    pub(crate) fn commit(&self) -> Option<Failure> {
        let fails = self.draws(COMMITS);
        fails.then(|| {
            if self.draw(2) == 0 {
                Failure::Before
            } else {
                Failure::After
            }
        })
    }

    fn draws(&self, one_in: u32) -> bool {
        self.0.wears.load(Ordering::SeqCst) && self.draw(one_in) == 0
    }

    fn draw(&self, below: u32) -> u32 {
        let mut random = self.0.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.random_range(0..below)
    }
}

/// The storage of one host, once its root is open.
pub(crate) struct Disks {
    pub(crate) wear: Wear,
    pub(crate) node: String,
    pub(crate) open: AtomicBool,
}

impl FileHook for Disks {
    fn before(&self, call: FileCall, _path: &Path) -> io::Result<()> {
        if !self.open.load(Ordering::SeqCst) || !self.wear.draws(CHANGES) {
            return Ok(());
        }
        self.wear.0.changes_failed.fetch_add(1, Ordering::SeqCst);
        let full = self.wear.draw(3) == 0;
        let kind = if full {
            io::ErrorKind::StorageFull
        } else {
            io::ErrorKind::Other
        };
        self.wear
            .0
            .trace
            .note(format!("{}: {call:?} fails as {kind:?}", self.node));
        Err(io::Error::new(kind, "the disk is worn"))
    }
}

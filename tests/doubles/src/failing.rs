//! A store that fails on purpose: at a chosen commit, before or after it took effect, and from then
//! on until it is opened again, as redb does. It can also hold commits back, and reads of the history.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use common::revision::{Revision, Start};

use store::{Commit, Identity, Reader, Recorded, StartSpan, Store, StoreError};

/// Which side of taking effect a commit fails on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing of it is on disk.
    Before,
    /// All of it is on disk, and nobody was told.
    After,
}

/// See the module.
pub struct FailingStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    fail: Option<(u64, When)>,
    failed: bool,
    always: bool,
    failing_reopens: u64,
    reopens: u64,
    blocked: bool,
    history_blocked: bool,
    waiting: u64,
    commits: u64,
}

impl FailingStore {
    /// A store that does what `inner` does until told otherwise.
    pub fn wrap(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The `nth` commit from now (1 is the next) fails, and all after it until [`Store::reopen`].
    pub fn fail_commit(&self, nth: u64, when: When) {
        self.lock().fail = Some((nth, when));
    }

    /// From now on every commit fails, however often it is opened again.
    pub fn fail_commits(&self) {
        self.lock().always = true;
    }

    /// How often it was opened again.
    pub fn reopens(&self) -> u64 {
        self.lock().reopens
    }

    /// The next `count` attempts to open it again fail too.
    pub fn fail_reopens(&self, count: u64) {
        self.lock().failing_reopens = count;
    }

    /// From now on commits wait.
    pub fn block_commits(&self) {
        self.lock().blocked = true;
    }

    /// Lets the commits that wait go on.
    pub fn unblock_commits(&self) {
        self.lock().blocked = false;
        self.changed.notify_all();
    }

    /// From now on reads of the history wait.
    pub fn block_history(&self) {
        self.lock().history_blocked = true;
    }

    /// Lets the reads of the history that wait go on.
    pub fn unblock_history(&self) {
        self.lock().history_blocked = false;
        self.changed.notify_all();
    }

    /// How many commits wait now.
    pub fn waiting(&self) -> u64 {
        self.lock().waiting
    }

    /// How many commits have succeeded.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while commits are held back, then says whether this one is to fail.
    fn turn(&self) -> Result<Option<When>, StoreError> {
        let mut plan = self.lock();
        plan.waiting += 1;
        while plan.blocked {
            plan = self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        plan.waiting -= 1;
        if plan.failed || plan.always {
            return Err(refused());
        }
        match plan.fail {
            Some((1, when)) => {
                plan.fail = None;
                plan.failed = true;
                Ok(Some(when))
            }
            Some((nth, when)) => {
                plan.fail = Some((nth - 1, when));
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

impl Store for FailingStore {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn commit(&self, batch: Arc<[Commit]>) -> Result<(), StoreError> {
        match self.turn()? {
            None => {
                self.inner.commit(batch)?;
                self.lock().commits += 1;
                Ok(())
            }
            Some(When::Before) => Err(refused()),
            Some(When::After) => {
                self.inner.commit(batch)?;
                Err(refused())
            }
        }
    }

    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError> {
        self.inner.reader()
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let mut plan = self.lock();
        while plan.history_blocked {
            plan = self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        drop(plan);
        self.inner.history(after, limit)
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        self.inner.oldest()
    }

    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError> {
        self.inner.span(start)
    }

    fn trim(&self, through: Revision) -> Result<bool, StoreError> {
        self.inner.trim(through)
    }

    fn has_room(&self) -> bool {
        self.inner.has_room()
    }

    fn trouble(&self) -> Result<(), StoreError> {
        self.inner.trouble()
    }

    fn look_after(&self) -> Result<(), StoreError> {
        self.inner.look_after()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut plan = self.lock();
        if plan.failing_reopens > 0 {
            plan.failing_reopens -= 1;
            return Err(refused());
        }
        plan.failed = false;
        plan.reopens += 1;
        drop(plan);
        self.inner.reopen()
    }
}

fn refused() -> StoreError {
    StoreError::Unavailable("it was told to fail".into())
}

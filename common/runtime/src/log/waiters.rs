//! The readers that wait for the next change. A place costs nothing while its reader does not wait, and one wake-up
//! serves a whole batch, however many revisions it has.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The wakers of those who wait now, by place.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// Without a random seed: those who wait are woken in an order that depends on nothing but their numbers.
    wakers: HashMap<u64, Waker, BuildHasherDefault<DefaultHasher>>,
}

/// A reader's place to wait at; given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    waiters: Arc<Waiters>,
    number: u64,
}

impl Waiters {
    pub(crate) fn place(waiters: &Arc<Self>) -> Place {
        let mut inner = waiters.lock();
        inner.next += 1;
        Place {
            number: inner.next,
            waiters: Arc::clone(waiters),
        }
    }

    /// Wakes all who wait; each must ask again.
    pub(crate) fn wake_all(&self) {
        let woken: Vec<Waker> = self.lock().wakers.drain().map(|(_, waker)| waker).collect();
        for waker in woken {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Has `waker` woken at the next change. Look once more afterwards: a change may have come before.
    pub(crate) fn wait(&self, waker: &Waker) {
        self.waiters.lock().wakers.insert(self.number, waker.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiters.lock().wakers.remove(&self.number);
    }
}

//! Locks on storage domains and images.
//!
//! A task has a shared lock on its domains and on images that it only reads, and an exclusive lock on the image that
//! it changes. A call outside of any task gets exclusive locks at once, or is refused. A task requests each key
//! separately, all in the step that accepts it. This is free of deadlocks (calls never wait, and a task waits only
//! for those that were accepted before it), and it keeps tasks that merely wait for an image out of the domain's
//! queue, which a release would otherwise have to walk.

use common::id::{DomainId, ImageId};
use common::lock::{Acquired, LockTable, Mode};
use common::operation::Operation;

use crate::task::Ordinal;

/// A key that can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A storage domain.
    Domain(DomainId),
    /// An image, with all its volumes.
    Image(DomainId, ImageId),
}

/// Identifies a call that changes storage outside of any task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// The locks of an operation: its domains, shared, and each image in the mode in which it touches it.
pub(crate) fn keys(operation: &Operation) -> Vec<(Key, Mode)> {
    let domains = operation.domains().into_iter();
    let images = operation.touches().into_iter();
    domains
        .map(|domain| (Key::Domain(domain), Mode::Shared))
        .chain(images.map(|touch| (Key::Image(touch.domain, touch.image), touch.mode)))
        .collect()
}

/// An owner of locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// A task, for one of its keys.
    Task(Ordinal, Key),
    /// A call.
    Call(CallId),
}

/// The locks of all unfinished tasks and of the calls outside them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locks {
    table: LockTable<Key, Holder>,
}

impl Locks {
    /// Requests everything that a task needs, in the order of acceptance; returns whether it has it all.
    pub(crate) fn request(&mut self, ordinal: Ordinal, operation: &Operation) -> bool {
        let mut all = true;
        for (key, mode) in keys(operation) {
            let outcome = self
                .table
                .acquire(Holder::Task(ordinal, key), [(key, mode)], true);
            all &= outcome == Acquired::Granted;
        }
        all
    }

    /// Restores the locks that a task had when it was recorded, whatever others hold.
    pub(crate) fn restore(&mut self, ordinal: Ordinal, operation: &Operation) {
        for (key, mode) in keys(operation) {
            self.table.restore(Holder::Task(ordinal, key), [(key, mode)]);
        }
    }

    /// Releases what a task holds or waits for; returns the tasks that may have got all their locks by it.
    pub(crate) fn release(&mut self, ordinal: Ordinal, operation: &Operation) -> Vec<Ordinal> {
        let mut granted = Vec::new();
        for (key, _) in keys(operation) {
            granted.extend(self.table.release(&Holder::Task(ordinal, key)));
        }
        ordinals(granted)
    }

    /// Whether a task holds everything that it requested.
    pub(crate) fn has_all(&self, ordinal: Ordinal, operation: &Operation) -> bool {
        let holds = |key| !self.table.held_by(&Holder::Task(ordinal, key)).is_empty();
        keys(operation).into_iter().all(|(key, _)| holds(key))
    }

    /// The key that a new task would have to wait for, and its holder or earlier waiter.
    pub(crate) fn obstacle(&self, operation: &Operation) -> Option<(Key, Holder)> {
        self.table.in_the_way(&keys(operation))
    }

    /// Locks `keys` for a call, exclusively and at once.
    ///
    /// # Errors
    /// The key that is not available, and its holder.
    pub(crate) fn hold(&mut self, call: CallId, keys: &[Key]) -> Result<(), (Key, Holder)> {
        let wants = keys.iter().map(|key| (*key, Mode::Exclusive));
        match self.table.acquire(Holder::Call(call), wants, false) {
            Acquired::Granted | Acquired::Queued => Ok(()),
            Acquired::Busy { key, holder } => Err((key, holder)),
        }
    }

    /// Restores `keys` for a call that had them before a load.
    pub(crate) fn restore_call(&mut self, call: CallId, keys: &[Key]) {
        let wants = keys.iter().map(|key| (*key, Mode::Exclusive));
        self.table.restore(Holder::Call(call), wants);
    }

    /// The call has ended; returns the tasks that may have got all their locks by it.
    pub(crate) fn let_go(&mut self, call: CallId) -> Vec<Ordinal> {
        ordinals(self.table.release(&Holder::Call(call)))
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.owners().next().is_none()
    }
}

fn ordinals(granted: Vec<Holder>) -> Vec<Ordinal> {
    granted
        .into_iter()
        .filter_map(|holder| match holder {
            Holder::Task(ordinal, _) => Some(ordinal),
            Holder::Call(_) => None,
        })
        .collect()
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => write!(f, "storage domain {domain}"),
            Self::Image(_, image) => write!(f, "image {image}"),
        }
    }
}

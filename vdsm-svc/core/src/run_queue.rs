//! Which tasks may run: a maximum number on the host and on each domain, in the order of acceptance. A task that
//! waits for its domain does not delay tasks of other domains.

use std::collections::{BTreeMap, BTreeSet};

use common::id::DomainId;

use crate::task::Ordinal;

/// The limits of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of operations that run at once.
    pub running_per_host: usize,
    /// The maximum number of operations that run at once on one storage domain.
    pub running_per_domain: usize,
    /// The maximum number of tasks that wait; one more is refused with `QUEUE_FULL`.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running_per_host: 8,
            running_per_domain: 4,
            queue: 10_000,
        }
    }
}

/// The tasks of one domain, or those without a domain, to which only the host's limit applies.
type Lane = Option<DomainId>;

/// The running tasks, and those that are ready to run.
#[derive(Debug, Clone)]
pub(crate) struct RunQueue {
    limits: Limits,
    running: usize,
    running_in: BTreeMap<DomainId, usize>,
    ready: BTreeMap<Lane, BTreeSet<Ordinal>>,
    /// The first of each lane that is not at its limit, so that a choice looks at one entry only.
    heads: BTreeSet<(Ordinal, Lane)>,
}

impl RunQueue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: 0,
            running_in: BTreeMap::new(),
            ready: BTreeMap::new(),
            heads: BTreeSet::new(),
        }
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A task has its locks and is ready to run.
    pub(crate) fn ready(&mut self, ordinal: Ordinal, lane: Lane) {
        self.change(lane, |run_queue| {
            run_queue.ready.entry(lane).or_default().insert(ordinal);
        });
    }

    /// A task no longer wants to run. Does nothing if it was not ready.
    pub(crate) fn withdraw(&mut self, ordinal: Ordinal, lane: Lane) {
        self.change(lane, |run_queue| {
            if let Some(waiting) = run_queue.ready.get_mut(&lane) {
                waiting.remove(&ordinal);
                if waiting.is_empty() {
                    run_queue.ready.remove(&lane);
                }
            }
        });
    }

    /// A task starts to run.
    pub(crate) fn enter(&mut self, ordinal: Ordinal, lane: Lane) {
        self.withdraw(ordinal, lane);
        self.change(lane, |run_queue| {
            run_queue.running += 1;
            if let Some(domain) = lane {
                *run_queue.running_in.entry(domain).or_default() += 1;
            }
        });
    }

    /// A task stops running.
    pub(crate) fn leave(&mut self, lane: Lane) {
        self.change(lane, |run_queue| {
            run_queue.running = run_queue.running.saturating_sub(1);
            if let Some(domain) = lane {
                let left = run_queue.running_in(domain).saturating_sub(1);
                if left == 0 {
                    run_queue.running_in.remove(&domain);
                } else {
                    run_queue.running_in.insert(domain, left);
                }
            }
        });
    }

    /// The next task to run, if the limits allow one.
    pub(crate) fn next(&self) -> Option<Ordinal> {
        if self.running >= self.limits.running_per_host {
            return None;
        }
        self.heads.first().map(|(ordinal, _)| *ordinal)
    }

    pub(crate) const fn running(&self) -> usize {
        self.running
    }

    pub(crate) fn running_in(&self, domain: DomainId) -> usize {
        self.running_in.get(&domain).copied().unwrap_or_default()
    }

    /// Keeps `heads` consistent during a change of one lane.
    fn change(&mut self, lane: Lane, change: impl FnOnce(&mut Self)) {
        if let Some(head) = self.head(lane) {
            self.heads.remove(&(head, lane));
        }
        change(self);
        if let Some(head) = self.head(lane) {
            self.heads.insert((head, lane));
        }
    }

    fn head(&self, lane: Lane) -> Option<Ordinal> {
        let full = lane.is_some_and(|domain| self.running_in(domain) >= self.limits.running_per_domain);
        if full {
            return None;
        }
        self.ready.get(&lane)?.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LIMITS: Limits = Limits {
        running_per_host: 3,
        running_per_domain: 1,
        queue: 10,
    };

    fn lane(n: u128) -> Lane {
        Some(DomainId::from_uuid(Uuid::from_u128(n)))
    }

    #[test]
    fn a_full_domain_holds_up_only_its_own() {
        let mut run_queue = RunQueue::new(LIMITS);
        run_queue.ready(Ordinal(1), lane(1));
        run_queue.ready(Ordinal(2), lane(1));
        run_queue.ready(Ordinal(3), lane(2));
        assert_eq!(run_queue.next(), Some(Ordinal(1)));
        run_queue.enter(Ordinal(1), lane(1));
        assert_eq!(run_queue.next(), Some(Ordinal(3)));
        run_queue.enter(Ordinal(3), lane(2));
        assert_eq!(run_queue.next(), None);
        run_queue.leave(lane(1));
        assert_eq!(run_queue.next(), Some(Ordinal(2)));
    }

    #[test]
    fn the_host_limit_binds_all_and_order_is_that_of_acceptance() {
        let mut run_queue = RunQueue::new(LIMITS);
        for ordinal in [5, 4, 7, 6] {
            run_queue.ready(Ordinal(ordinal), None);
        }
        for ordinal in [4, 5, 6] {
            assert_eq!(run_queue.next(), Some(Ordinal(ordinal)));
            run_queue.enter(Ordinal(ordinal), None);
        }
        assert_eq!(run_queue.next(), None);
        run_queue.withdraw(Ordinal(7), None);
        run_queue.leave(None);
        assert_eq!(run_queue.next(), None);
    }
}

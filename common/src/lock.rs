//! Shared and exclusive locks with owners. A set of keys is acquired all or none; waiters are served in the order of
//! arrival, and no waiter passes another one that it conflicts with. A refusal names the holder.
//!
//! Either the table decides when a waiter is granted its locks ([`LockTable::acquire`], [`LockTable::release`]), or
//! its user does, if that must be recorded first ([`LockTable::await_turn`], [`LockTable::leave`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Shared with others.
    Shared,
    /// Held by one owner alone.
    Exclusive,
}

impl Mode {
    const fn goes_with(self, other: Mode) -> bool {
        matches!((self, other), (Mode::Shared, Mode::Shared))
    }
}

/// The result of a request for locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired<K, O> {
    /// All keys are held.
    Granted,
    /// It waits for its turn.
    Queued,
    /// Not granted, nothing held, nothing queued.
    Busy {
        /// The first key that could not be had.
        key: K,
        /// Who holds it, or waits for it ahead.
        holder: O,
    },
}

/// Which owner holds which keys, and who waits.
#[derive(Debug, Clone)]
pub struct LockTable<K, O> {
    keys: BTreeMap<K, Entry<O>>,
    held: BTreeMap<O, Vec<(K, Mode)>>,
    waiting: BTreeMap<O, Waiting<K>>,
    /// The last turn number that was issued.
    last_turn: u64,
}

/// The keys that an owner waits for, and its turn number.
#[derive(Debug, Clone)]
struct Waiting<K> {
    turn: u64,
    wants: Vec<(K, Mode)>,
}

/// An owner that another one has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle<K, O> {
    /// The key.
    pub key: K,
    /// Who holds it, or waits for it ahead.
    pub owner: O,
    /// The mode.
    pub mode: Mode,
    /// It does not hold the key yet, but waits for it.
    pub waits: bool,
}

#[derive(Debug, Clone)]
struct Entry<O> {
    holders: Vec<(O, Mode)>,
    /// In the order of their turns.
    queue: VecDeque<(O, Mode, u64)>,
}

impl<O: Clone> Entry<O> {
    /// The first waiter, and those behind it that are compatible with it.
    fn head_run(&self) -> Vec<O> {
        let Some((_, head, _)) = self.queue.front() else {
            return Vec::new();
        };
        let together = self
            .queue
            .iter()
            .skip(1)
            .take_while(|(_, mode, _)| mode.goes_with(*head))
            .count();
        self.queue
            .iter()
            .take(1 + together)
            .map(|(owner, _, _)| owner.clone())
            .collect()
    }
}

impl<K, O> Default for LockTable<K, O> {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_turn: 0,
        }
    }
}

impl<K: Ord + Clone, O: Ord + Clone> LockTable<K, O> {
    /// Acquires all of `wants` for `owner`, or nothing. A key that occurs twice is locked in the stronger mode. An
    /// owner that already holds or waits for something keeps that, and gets the same answer again.
    pub fn acquire(
        &mut self,
        owner: O,
        wants: impl IntoIterator<Item = (K, Mode)>,
        wait: bool,
    ) -> Acquired<K, O> {
        if self.held.contains_key(&owner) {
            return Acquired::Granted;
        }
        if self.waiting.contains_key(&owner) {
            return Acquired::Queued;
        }
        let wants = merged(wants);
        match (self.obstacle(&owner, &wants), wait) {
            (None, _) => {
                self.hold(owner, wants);
                Acquired::Granted
            }
            (Some(_), true) => {
                self.enqueue(owner, self.last_turn + 1, wants);
                Acquired::Queued
            }
            (Some((key, holder)), false) => Acquired::Busy { key, holder },
        }
    }

    /// Locks all of `wants` for `owner`, whatever others hold: for rebuilding the table from locks that are recorded
    /// as granted.
    pub fn restore(&mut self, owner: O, wants: impl IntoIterator<Item = (K, Mode)>) {
        let wants = merged(wants);
        self.hold(owner, wants);
    }

    /// Makes `owner` wait for all of `wants`, even if they are free: the user of the table grants them, by
    /// [`LockTable::leave`] and [`LockTable::restore`]. Its position is given by `turn`; an owner that waits already
    /// waits for these keys from now on.
    pub fn await_turn(&mut self, owner: O, turn: u64, wants: impl IntoIterator<Item = (K, Mode)>) {
        let wants = merged(wants);
        if self.held.contains_key(&owner) {
            return;
        }
        self.leave(&owner);
        self.enqueue(owner, turn, wants);
    }

    fn enqueue(&mut self, owner: O, turn: u64, wants: Vec<(K, Mode)>) {
        for (key, mode) in &wants {
            let queue = &mut self.entry(key).queue;
            let at = queue.partition_point(|(_, _, other)| *other <= turn);
            queue.insert(at, (owner.clone(), *mode, turn));
        }
        self.last_turn = self.last_turn.max(turn);
        self.waiting.insert(owner, Waiting { turn, wants });
    }

    /// Releases everything that `owner` holds or waits for, and grants nothing to others. Does nothing if it has
    /// nothing.
    pub fn leave(&mut self, owner: &O) {
        let touched = self.let_go(owner);
        self.tidy(&touched);
    }

    /// The owners that wait for one of `keys`, in the order of their turns.
    pub fn waiting_for<'a>(&self, keys: impl IntoIterator<Item = &'a K>) -> Vec<O>
    where
        K: 'a,
    {
        let entries = keys.into_iter().filter_map(|key| self.keys.get(key));
        let waiting =
            entries.flat_map(|entry| entry.queue.iter().map(|(owner, _, turn)| (*turn, owner.clone())));
        let waiting: BTreeSet<(u64, O)> = waiting.collect();
        waiting.into_iter().map(|(_, owner)| owner).collect()
    }

    /// Whether `owner` waits.
    pub fn is_waiting(&self, owner: &O) -> bool {
        self.waiting.contains_key(owner)
    }

    /// The number of waiting owners.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The waiting owners, in the order of their turns.
    pub fn waiters(&self) -> Vec<O> {
        let waiting: BTreeSet<(u64, &O)> = self
            .waiting
            .iter()
            .map(|(owner, waiting)| (waiting.turn, owner))
            .collect();
        waiting.into_iter().map(|(_, owner)| owner.clone()).collect()
    }

    /// Releases everything that `owner` holds or waits for. Does nothing if it has nothing. Returns the owners that
    /// are granted their locks by this, in order.
    pub fn release(&mut self, owner: &O) -> Vec<O> {
        let touched = self.let_go(owner);
        let granted = self.grant(&touched);
        self.tidy(&touched);
        granted
    }

    fn let_go(&mut self, owner: &O) -> Vec<K> {
        let mut touched: Vec<K> = Vec::new();
        for (key, _) in self.held.remove(owner).unwrap_or_default() {
            self.entry(&key).holders.retain(|(o, _)| o != owner);
            touched.push(key);
        }
        let waited_for = self.waiting.remove(owner).map(|waiting| waiting.wants);
        for (key, _) in waited_for.unwrap_or_default() {
            self.entry(&key).queue.retain(|(o, _, _)| o != owner);
            touched.push(key);
        }
        touched
    }

    fn tidy(&mut self, touched: &[K]) {
        for key in touched {
            if self
                .keys
                .get(key)
                .is_some_and(|e| e.holders.is_empty() && e.queue.is_empty())
            {
                self.keys.remove(key);
            }
        }
    }

    /// The keys that `owner` holds.
    pub fn held_by(&self, owner: &O) -> &[(K, Mode)] {
        self.held.get(owner).map_or(&[], Vec::as_slice)
    }

    /// The holders of `key`, with their modes.
    pub fn holders(&self, key: &K) -> &[(O, Mode)] {
        self.keys.get(key).map_or(&[], |entry| &entry.holders)
    }

    /// The first of `wants` that a new request would have to wait for, and whom it would wait for: a holder, or an
    /// earlier waiter.
    pub fn in_the_way(&self, wants: &[(K, Mode)]) -> Option<(K, O)> {
        self.all_obstacles(wants, |_| true)
            .next()
            .map(|found| (found.key, found.owner))
    }

    /// Everybody that `owner` must wait for to get `wants`; if it does not wait yet, as if it came last.
    pub fn obstacles(&self, owner: &O, wants: &[(K, Mode)]) -> Vec<Obstacle<K, O>> {
        self.all_obstacles(wants, |other| other != owner).collect()
    }

    /// The first key that `owner` waits for, and whom it waits for; none if it does not wait.
    pub fn waits_for(&self, owner: &O) -> Option<(K, O)> {
        let waiting = self.waiting.get(owner)?;
        self.obstacle(owner, &waiting.wants)
    }

    /// Every owner that holds something.
    pub fn owners(&self) -> impl Iterator<Item = &O> {
        self.held.keys()
    }

    fn entry(&mut self, key: &K) -> &mut Entry<O> {
        self.keys.entry(key.clone()).or_insert_with(|| Entry {
            holders: Vec::new(),
            queue: VecDeque::new(),
        })
    }

    fn hold(&mut self, owner: O, wants: Vec<(K, Mode)>) {
        for (key, mode) in &wants {
            self.entry(key).holders.push((owner.clone(), *mode));
        }
        self.held.insert(owner, wants);
    }

    /// The first key that `owner` cannot have now, and the reason: a holder, or an earlier waiter that it conflicts
    /// with.
    fn obstacle(&self, owner: &O, wants: &[(K, Mode)]) -> Option<(K, O)> {
        self.all_obstacles(wants, |other| other != owner)
            .next()
            .map(|found| (found.key, found.owner))
    }

    /// Only waiters up to the first that is not `ahead` count.
    fn all_obstacles(
        &self,
        wants: &[(K, Mode)],
        ahead: impl Fn(&O) -> bool + Copy,
    ) -> impl Iterator<Item = Obstacle<K, O>> {
        wants.iter().flat_map(move |(key, mode)| {
            let entry = self.keys.get(key).into_iter();
            let others = entry.flat_map(move |entry| {
                let holders = entry.holders.iter().map(|(owner, held)| (owner, *held, false));
                let ahead = entry.queue.iter().take_while(move |(other, _, _)| ahead(other));
                holders.chain(ahead.map(|(owner, wanted, _)| (owner, *wanted, true)))
            });
            let in_the_way = others.filter(|(_, other, _)| !mode.goes_with(*other));
            in_the_way.map(|(owner, mode, waits)| Obstacle {
                key: key.clone(),
                owner: owner.clone(),
                mode,
                waits,
            })
        })
    }

    fn grant(&mut self, touched: &[K]) -> Vec<O> {
        let mut granted = Vec::new();
        for key in touched {
            // Only the compatible requests at the head of the queue can be next: the others conflict with them.
            for owner in self.keys.get(key).map(Entry::head_run).unwrap_or_default() {
                let Some(waiting) = self.waiting.get(&owner) else {
                    continue;
                };
                if self.obstacle(&owner, &waiting.wants).is_some() {
                    continue;
                }
                let wants = waiting.wants.clone();
                self.waiting.remove(&owner);
                for (key, _) in &wants {
                    self.entry(key).queue.retain(|(o, _, _)| o != &owner);
                }
                self.hold(owner.clone(), wants);
                granted.push(owner);
            }
        }
        granted
    }
}

fn merged<K: Ord>(wants: impl IntoIterator<Item = (K, Mode)>) -> Vec<(K, Mode)> {
    let mut merged: BTreeMap<K, Mode> = BTreeMap::new();
    for (key, mode) in wants {
        merged
            .entry(key)
            .and_modify(|m| *m = (*m).max(mode))
            .or_insert(mode);
    }
    merged.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Mode::{Exclusive, Shared};
    use super::*;

    #[test]
    fn shared_goes_with_shared_only_and_a_refusal_names_the_holder() {
        let mut locks = LockTable::default();
        assert_eq!(locks.acquire(1, [("a", Shared)], false), Acquired::Granted);
        assert_eq!(locks.acquire(2, [("a", Shared)], false), Acquired::Granted);
        assert_eq!(
            locks.acquire(3, [("b", Exclusive), ("a", Exclusive)], false),
            Acquired::Busy { key: "a", holder: 1 }
        );
        assert_eq!(
            locks.acquire(4, [("b", Exclusive)], false),
            Acquired::Granted,
            "a refusal holds nothing"
        );
    }

    #[test]
    fn waiters_are_served_in_order_and_a_writer_is_not_starved() {
        let mut locks = LockTable::default();
        locks.acquire(1, [("a", Shared)], true);
        assert_eq!(locks.acquire(2, [("a", Exclusive)], true), Acquired::Queued);
        assert_eq!(locks.acquire(3, [("a", Shared)], true), Acquired::Queued);
        assert_eq!(locks.acquire(4, [("a", Shared)], true), Acquired::Queued);
        assert_eq!(locks.release(&1), vec![2]);
        assert_eq!(locks.release(&2), vec![3, 4]);
    }

    #[test]
    fn whoever_asks_next_is_told_who_stands_before_it() {
        let mut locks = LockTable::default();
        locks.acquire(1, [("a", Shared)], true);
        assert_eq!(locks.in_the_way(&[("a", Shared)]), None);
        assert_eq!(
            locks.in_the_way(&[("b", Exclusive), ("a", Exclusive)]),
            Some(("a", 1))
        );
        locks.acquire(2, [("a", Exclusive)], true);
        assert_eq!(
            locks.in_the_way(&[("a", Shared)]),
            Some(("a", 2)),
            "it waits ahead"
        );
    }

    #[test]
    fn one_that_gives_up_waiting_lets_the_others_pass() {
        let mut locks = LockTable::default();
        locks.acquire(1, [("a", Shared)], true);
        locks.acquire(2, [("a", Exclusive)], true);
        locks.acquire(3, [("a", Shared)], true);
        assert_eq!(locks.release(&2), vec![3]);
    }

    #[test]
    fn who_awaits_its_turn_stands_where_that_is_and_is_granted_nothing_by_the_table() {
        let mut locks = LockTable::default();
        locks.restore(1, [("a", Shared)]);
        for (owner, turn) in [(5, 5), (3, 3), (4, 4)] {
            locks.await_turn(owner, turn, [("a", Exclusive), ("b", Exclusive)]);
        }
        assert_eq!(locks.waiting_for(&["b", "c"]), [3, 4, 5]);
        assert_eq!(locks.waiters(), [3, 4, 5]);
        locks.leave(&1);
        assert_eq!(locks.held_by(&3), [], "its user says when");
        assert_eq!((locks.waits_for(&3), locks.waits_for(&4)), (None, Some(("a", 3))));
        let in_the_way: Vec<_> = locks
            .obstacles(&5, &[("a", Exclusive)])
            .iter()
            .map(|found| found.owner)
            .collect();
        assert_eq!(in_the_way, [3, 4]);
        locks.await_turn(3, 3, [("b", Exclusive)]);
        assert_eq!(
            locks.waits_for(&4),
            Some(("b", 3)),
            "it keeps its turn with what it wants now"
        );
        locks.leave(&3);
        locks.restore(3, [("b", Exclusive)]);
        assert_eq!(
            locks.obstacles(&4, &[("b", Exclusive)]),
            [Obstacle {
                key: "b",
                owner: 3,
                mode: Exclusive,
                waits: false
            }]
        );
        [3, 4, 5].iter().for_each(|owner| locks.leave(owner));
        assert!(locks.keys.is_empty() && locks.waiting() == 0);
    }

    #[test]
    fn releasing_twice_is_harmless() {
        let mut locks = LockTable::default();
        locks.acquire(1, [("a", Exclusive)], true);
        locks.release(&1);
        locks.acquire(2, [("a", Exclusive)], true);
        assert_eq!(locks.release(&1), Vec::<i32>::new());
        assert_eq!(locks.held_by(&2), [("a", Exclusive)]);
    }

    proptest! {
        /// Random requests and releases: no two conflicting holders, nobody both holds and waits, whoever waits
        /// has somebody in its way, and once all have let go nothing is left.
        #[test]
        fn the_table_is_never_wrong(script in prop::collection::vec(
            (0u8..8, prop::collection::vec((0u8..4, any::<bool>()), 1..4), any::<bool>(), any::<bool>()), 1..120,
        )) {
            let mut locks: LockTable<u8, u8> = LockTable::default();
            for (owner, wants, wait, release) in script {
                if release {
                    locks.release(&owner);
                } else {
                    let wants = wants.into_iter().map(|(k, x)| (k, if x { Exclusive } else { Shared }));
                    locks.acquire(owner, wants, wait);
                }
                for entry in locks.keys.values() {
                    let exclusive = entry.holders.iter().any(|(_, m)| *m == Exclusive);
                    prop_assert!(!exclusive || entry.holders.len() == 1);
                }
                for owner in locks.waiting.keys() {
                    prop_assert!(!locks.held.contains_key(owner));
                    prop_assert!(locks.waits_for(owner).is_some(), "{} waits for nothing", owner);
                }
            }
            for owner in 0..8 {
                locks.release(&owner);
            }
            prop_assert!(locks.keys.is_empty() && locks.held.is_empty() && locks.waiting.is_empty());
        }
    }
}

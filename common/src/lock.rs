//! Shared and exclusive locks with owners. A set of keys is taken all or none; who must wait does so in the
//! order of arrival, and nobody passes anybody whom it conflicts with. A refusal names the holder.

use std::collections::{BTreeMap, VecDeque};

/// How a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// With others that share it.
    Shared,
    /// Held by one owner alone.
    Exclusive,
}

impl Mode {
    const fn goes_with(self, other: Mode) -> bool {
        matches!((self, other), (Mode::Shared, Mode::Shared))
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<K, O> {
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

/// Which owner holds what, and who waits.
#[derive(Debug, Clone)]
pub struct LockTable<K, O> {
    keys: BTreeMap<K, Entry<O>>,
    held: BTreeMap<O, Vec<(K, Mode)>>,
    waiting: BTreeMap<O, Vec<(K, Mode)>>,
}

#[derive(Debug, Clone)]
struct Entry<O> {
    holders: Vec<(O, Mode)>,
    queue: VecDeque<(O, Mode)>,
}

impl<O: Clone> Entry<O> {
    /// The first who waits, and those behind it that go with it.
    fn head_run(&self) -> Vec<O> {
        let Some((_, head)) = self.queue.front() else {
            return Vec::new();
        };
        let together = self
            .queue
            .iter()
            .skip(1)
            .take_while(|(_, mode)| mode.goes_with(*head))
            .count();
        self.queue
            .iter()
            .take(1 + together)
            .map(|(owner, _)| owner.clone())
            .collect()
    }
}

impl<K, O> Default for LockTable<K, O> {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, O: Ord + Clone> LockTable<K, O> {
    /// Takes all of `wants` for `owner`, or nothing. A key named twice is taken in the stronger mode. An owner
    /// that holds or waits for something already keeps that, and the answer is as for the first request.
    pub fn acquire(
        &mut self,
        owner: O,
        wants: impl IntoIterator<Item = (K, Mode)>,
        wait: bool,
    ) -> Outcome<K, O> {
        if self.held.contains_key(&owner) {
            return Outcome::Granted;
        }
        if self.waiting.contains_key(&owner) {
            return Outcome::Queued;
        }
        let wants = merged(wants);
        match (self.obstacle(&owner, &wants), wait) {
            (None, _) => {
                self.hold(owner, wants);
                Outcome::Granted
            }
            (Some(_), true) => {
                for (key, mode) in &wants {
                    self.entry(key).queue.push_back((owner.clone(), *mode));
                }
                self.waiting.insert(owner, wants);
                Outcome::Queued
            }
            (Some((key, holder)), false) => Outcome::Busy { key, holder },
        }
    }

    /// Holds all of `wants` for `owner`, whatever others hold: for rebuilding the table from records that were
    /// granted once, where asking again would be a lie.
    pub fn restore(&mut self, owner: O, wants: impl IntoIterator<Item = (K, Mode)>) {
        let wants = merged(wants);
        self.hold(owner, wants);
    }

    /// Frees what `owner` holds or waits for. Harmless when it has nothing. Returns, in the order in which they
    /// are granted, the owners whose turn has come.
    pub fn release(&mut self, owner: &O) -> Vec<O> {
        let mut touched: Vec<K> = Vec::new();
        for (key, _) in self.held.remove(owner).unwrap_or_default() {
            self.entry(&key).holders.retain(|(o, _)| o != owner);
            touched.push(key);
        }
        for (key, _) in self.waiting.remove(owner).unwrap_or_default() {
            self.entry(&key).queue.retain(|(o, _)| o != owner);
            touched.push(key);
        }
        let granted = self.grant(&touched);
        for key in &touched {
            if self
                .keys
                .get(key)
                .is_some_and(|e| e.holders.is_empty() && e.queue.is_empty())
            {
                self.keys.remove(key);
            }
        }
        granted
    }

    /// What `owner` holds.
    pub fn held_by(&self, owner: &O) -> &[(K, Mode)] {
        self.held.get(owner).map_or(&[], Vec::as_slice)
    }

    /// Who holds `key`, and how.
    pub fn holders(&self, key: &K) -> &[(O, Mode)] {
        self.keys.get(key).map_or(&[], |entry| &entry.holders)
    }

    /// The first of `wants` that somebody who asks now would have to wait for, and who stands before it: a holder,
    /// or one who waits already.
    pub fn in_the_way(&self, wants: &[(K, Mode)]) -> Option<(K, O)> {
        self.first_obstacle(wants, |_| true)
    }

    /// The first key that `owner` waits for and who stands before it; none if it does not wait.
    pub fn waits_for(&self, owner: &O) -> Option<(K, O)> {
        let wants = self.waiting.get(owner)?;
        self.obstacle(owner, wants)
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

    /// The first key that `owner` cannot have now, and who is in the way: a holder, or somebody ahead of it in
    /// the queue whom it conflicts with.
    fn obstacle(&self, owner: &O, wants: &[(K, Mode)]) -> Option<(K, O)> {
        self.first_obstacle(wants, |other| other != owner)
    }

    /// Of those who wait, the ones up to the first that is not `ahead` count.
    fn first_obstacle(&self, wants: &[(K, Mode)], ahead: impl Fn(&O) -> bool) -> Option<(K, O)> {
        wants.iter().find_map(|(key, mode)| {
            let entry = self.keys.get(key)?;
            let ahead = entry.queue.iter().take_while(|(o, _)| ahead(o));
            let in_the_way = entry
                .holders
                .iter()
                .chain(ahead)
                .find(|(_, held)| !mode.goes_with(*held));
            in_the_way.map(|(holder, _)| (key.clone(), holder.clone()))
        })
    }

    fn grant(&mut self, touched: &[K]) -> Vec<O> {
        let mut granted = Vec::new();
        for key in touched {
            // Only the run of compatible requests at the head can be next: the rest conflicts with it.
            for owner in self.keys.get(key).map(Entry::head_run).unwrap_or_default() {
                let Some(wants) = self.waiting.get(&owner) else {
                    continue;
                };
                if self.obstacle(&owner, wants).is_some() {
                    continue;
                }
                let wants = self.waiting.remove(&owner).unwrap_or_default();
                for (key, _) in &wants {
                    self.entry(key).queue.retain(|(o, _)| o != &owner);
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
        assert_eq!(locks.acquire(1, [("a", Shared)], false), Outcome::Granted);
        assert_eq!(locks.acquire(2, [("a", Shared)], false), Outcome::Granted);
        assert_eq!(
            locks.acquire(3, [("b", Exclusive), ("a", Exclusive)], false),
            Outcome::Busy { key: "a", holder: 1 }
        );
        assert_eq!(
            locks.acquire(4, [("b", Exclusive)], false),
            Outcome::Granted,
            "a refusal holds nothing"
        );
    }

    #[test]
    fn waiters_are_served_in_order_and_a_writer_is_not_starved() {
        let mut locks = LockTable::default();
        locks.acquire(1, [("a", Shared)], true);
        assert_eq!(locks.acquire(2, [("a", Exclusive)], true), Outcome::Queued);
        assert_eq!(locks.acquire(3, [("a", Shared)], true), Outcome::Queued);
        assert_eq!(locks.acquire(4, [("a", Shared)], true), Outcome::Queued);
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

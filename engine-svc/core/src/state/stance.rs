//! Whether this start of the engine may act, or another life of the engine does (docs/adr/0012).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use common::id::HostId;
use common::{Fault, FaultCode};

use super::State;
use crate::model::{EntityKey, Host};

/// Whether this start of the engine may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stance {
    /// The engine takes commands.
    Acts,
    /// The engine takes no commands yet: answers that hosts still owe decide.
    Undecided(Fault),
    /// The engine takes no commands: another life of this engine goes on.
    Over(Fault),
}

/// What the hosts say of this start.
#[derive(Debug, Clone, Default)]
struct Votes {
    all: BTreeSet<HostId>,
    /// Hosts that are this start's.
    ours: BTreeSet<HostId>,
    /// Hosts that are to be this start's, as a person has decided.
    decided: BTreeSet<HostId>,
    /// Hosts that say that they are another life's.
    denied: BTreeSet<HostId>,
    /// Those of the denied hosts that prove it.
    proven: BTreeSet<HostId>,
}

impl Votes {
    /// Whether another life goes on.
    fn are_lost(&self, spoken: &BTreeSet<HostId>) -> bool {
        self.are_lost_by_word() || self.are_lost_by_proof() || self.may_be_lost_unseen(spoken)
    }

    /// The word of hosts decides only if more than half of all hosts give it, or if no host is this start's: one of
    /// many hosts may lie.
    fn are_lost_by_word(&self) -> bool {
        2 * self.denied.len() > self.all.len() || (self.ours.is_empty() && !self.denied.is_empty())
    }

    /// Another life wins by proof if more hosts prove it than are this start's. If the numbers are equal, the host
    /// with the smallest id decides, so that one of two lives that share the hosts is over.
    fn are_lost_by_proof(&self) -> bool {
        match self.proven.len().cmp(&self.ours.len()) {
            Ordering::Greater => true,
            Ordering::Equal => self.proven.first() < self.ours.first(),
            Ordering::Less => false,
        }
    }

    /// A life that is proven, and does not say itself which hosts it has, may also have the hosts that are away. A
    /// start that nobody can outnumber goes on all the same.
    fn may_be_lost_unseen(&self, spoken: &BTreeSet<HostId>) -> bool {
        !self.proven.is_subset(spoken) && !self.cannot_be_outnumbered()
    }

    /// Whether this start has more than half of all hosts, or half of them with the one that decides.
    fn cannot_be_outnumbered(&self) -> bool {
        let sure = self.ours.len() + self.decided.len();
        let first = self.all.first();
        let has_first = first.is_some_and(|id| self.ours.contains(id) || self.decided.contains(id));
        2 * sure > self.all.len() || (2 * sure == self.all.len() && has_first)
    }
}

/// How one host counts.
enum Vote<'a> {
    Ours,
    /// The host does not answer, or belongs to no engine that could be told from this one.
    Nobodys,
    /// A person has decided that the host is to be this start's.
    Decided,
    Denied {
        fault: &'a Fault,
        is_proven: bool,
    },
    /// The host was not asked yet, or has not decided: it says that another start is connected there, or that start's
    /// connection is not known to be dead.
    Open(Option<&'a Fault>),
}

impl State {
    /// See [`Stance`].
    pub fn stance(&self) -> Stance {
        let (mut best, mut worst) = (Votes::default(), Votes::default());
        let (mut open, mut over) = (None, None);
        for host in self.hosts() {
            let id = host.id;
            best.all.insert(id);
            worst.all.insert(id);
            match self.vote(host) {
                Vote::Nobodys => {}
                Vote::Decided => {
                    best.decided.insert(id);
                    worst.decided.insert(id);
                }
                Vote::Ours => {
                    best.ours.insert(id);
                    worst.ours.insert(id);
                }
                Vote::Denied { fault, is_proven } => {
                    over.get_or_insert((id, fault));
                    for votes in [&mut best, &mut worst] {
                        votes.denied.insert(id);
                        if is_proven {
                            votes.proven.insert(id);
                        }
                    }
                }
                // The host may yet prove that it is another life's.
                Vote::Open(said) => {
                    open.get_or_insert((id, said));
                    best.ours.insert(id);
                    worst.denied.insert(id);
                    worst.proven.insert(id);
                }
            }
        }
        let spoken: BTreeSet<HostId> = self.volatile.met.values().flatten().copied().collect();
        match (over, open) {
            (Some((id, fault)), _) if best.are_lost(&spoken) => Stance::Over(is_over(id, fault)),
            (_, Some((id, fault))) if worst.are_lost(&spoken) => Stance::Undecided(is_undecided(id, fault)),
            _ => Stance::Acts,
        }
    }

    /// The hosts that are this start's.
    pub(crate) fn held(&self) -> Vec<HostId> {
        let ours = self.hosts().filter(|host| matches!(self.vote(host), Vote::Ours));
        ours.map(|host| host.id).collect()
    }

    fn vote(&self, host: &Host) -> Vote<'_> {
        if self.volatile.connected.contains_key(&host.id) {
            return match self.volatile.doubted.contains(&host.id) {
                true => Vote::Open(None),
                false => Vote::Ours,
            };
        }
        if self.taking_over(host.id).is_some() {
            return Vote::Decided;
        }
        match self.host(host.id).and_then(|host| host.other_life.as_ref()) {
            Some(other) if other.fault.code == FaultCode::EngineStillConnected => {
                Vote::Open(Some(&other.fault))
            }
            Some(other) => Vote::Denied {
                fault: &other.fault,
                is_proven: other.is_proven,
            },
            None if self.volatile.away.contains(&host.id) => Vote::Nobodys,
            None => Vote::Open(None),
        }
    }
}

fn is_over(host_id: HostId, fault: &Fault) -> Fault {
    let message = format!(
        "another life of this engine is active and the records of this one are outdated; the other one has host {host_id}: {}",
        fault.message
    );
    Fault::new(fault.code, message).about(EntityKey::Host(host_id))
}

fn is_undecided(host_id: HostId, said: Option<&Fault>) -> Fault {
    let (code, why) = match said {
        Some(fault) => (fault.code, format!("host {host_id} says: {}", fault.message)),
        None => (
            FaultCode::Loading,
            format!(
                "the engine has just started, or its process stood still, and host {host_id} has not answered yet. Repeat in a moment"
            ),
        ),
    };
    let message = format!(
        "nothing was done, because it is not known yet whether another life of this engine is active: {why}"
    );
    Fault::new(code, message).about(EntityKey::Host(host_id))
}

#[cfg(test)]
mod tests {
    use common::id::StoreId;
    use common::{Start, Timestamp, Words};
    use uuid::Uuid;

    use super::*;
    use crate::input::{HostFacts, Input};
    use crate::testing::{World, host_id, other_start};

    /// One host of two lives: which life it is loyal to, and which of them reach it.
    #[derive(Debug, Clone, Copy)]
    struct Place {
        of: usize,
        reached: [bool; 2],
    }

    impl Place {
        fn answers_its_own(self) -> bool {
            self.reached[self.of]
        }

        fn is_a_path(self) -> bool {
            self.reached == [true; 2]
        }

        fn is_down(self) -> bool {
            self.reached == [false; 2]
        }

        fn all() -> impl Iterator<Item = Self> {
            (0..8).map(|n| Self {
                of: n & 1,
                reached: [n & 2 != 0, n & 4 != 0],
            })
        }
    }

    /// All lists of this many places.
    fn situations(count: u32) -> Vec<Vec<Place>> {
        let mut all = vec![Vec::new()];
        for _ in 0..count {
            let longer = |one: &Vec<Place>| {
                let longer = Place::all().map(|place| one.iter().copied().chain([place]).collect());
                longer.collect::<Vec<Vec<_>>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }

    fn held(places: &[Place], life: usize) -> BTreeSet<HostId> {
        let held = places
            .iter()
            .zip(0..)
            .filter(|(place, _)| place.of == life && place.answers_its_own());
        held.map(|(_, n)| host_id(n)).collect()
    }

    fn meet(places: &[Place]) -> bool {
        places.iter().any(|place| place.is_a_path())
    }

    fn take(state: &mut State, input: Input) {
        state.step(input, Timestamp(0));
    }

    /// What this life learns: whose the reached hosts are, and what the other life says through the hosts that both
    /// reach.
    fn look(state: &mut State, places: &[Place], life: usize) {
        take(state, Input::StoodStill);
        for (place, n) in places.iter().zip(0..) {
            let host_id = host_id(n);
            // Each connection ends; then the next attempt tells how the host is.
            take(state, Input::HostAway { host_id });
            take(
                state,
                Input::LivesMet {
                    host_id,
                    lives: Vec::new(),
                },
            );
            take(
                state,
                match (place.reached[life], place.of == life) {
                    (false, _) => Input::HostAway { host_id },
                    (true, true) => Input::HostConnected {
                        host_id,
                        facts: HostFacts {
                            store_id: StoreId::from_uuid(Uuid::from_u128(n + 1)),
                            start: Start(1),
                            followed: None,
                            forgotten: Words::default(),
                            engine_id: Some(state.seed.engine_id),
                            orphan_task_ids: Vec::new(),
                            more_orphans: false,
                        },
                    },
                    (true, false) => Input::HostRefused {
                        host_id,
                        fault: Fault::new(FaultCode::EngineFenced, "another life has it"),
                        is_proven: true,
                    },
                },
            );
        }
        let path = places.iter().zip(0..).find(|(place, _)| place.is_a_path());
        if let Some((_, n)) = path {
            let lives = vec![other_start(&held(places, 1 - life))];
            // After the first word all hosts may be followed anew, and what they say is said anew.
            for _ in 0..2 {
                let lives = lives.clone();
                take(
                    state,
                    Input::LivesMet {
                        host_id: host_id(n),
                        lives,
                    },
                );
            }
        }
    }

    /// A state after a start of an engine with this many hosts, before any host was asked.
    fn started(hosts: u128) -> State {
        let mut world = World::with_domains(hosts);
        world.crash_unasked();
        world.engine.state.clone()
    }

    fn acts(state: &State) -> bool {
        state.stance() == Stance::Acts
    }

    /// Whichever life reaches whichever host.
    #[test]
    fn of_two_lives_that_reach_a_host_in_common_one_goes_on_at_most_and_one_does_where_hosts_answer_their_own()
     {
        for count in 1..=4 {
            let start = started(u128::from(count));
            for places in situations(count) {
                let lives = [0, 1].map(|life| {
                    let mut state = start.clone();
                    look(&mut state, &places, life);
                    state
                });
                let acting = lives.iter().filter(|state| acts(state)).count();
                if !meet(&places) {
                    continue;
                }
                assert!(acting <= 1, "{places:?}");
                if places
                    .iter()
                    .all(|place| place.answers_its_own() || place.is_down())
                {
                    assert_eq!(acting, 1, "{places:?}");
                }
            }
        }
    }

    /// No life can know of the other then: each acts as an engine must whose other hosts are down. The hosts see to
    /// it that no host obeys both.
    #[test]
    fn of_two_lives_that_reach_no_host_in_common_each_goes_on() {
        let start = started(2);
        let places = [
            Place {
                of: 0,
                reached: [true, false],
            },
            Place {
                of: 1,
                reached: [false, true],
            },
        ];
        for life in [0, 1] {
            let mut state = start.clone();
            look(&mut state, &places, life);
            assert!(acts(&state));
        }
    }

    /// After restarts each life still knows of the other, whichever hosts are then cut off from whom.
    #[test]
    fn two_lives_that_have_known_of_each_other_are_one_at_most_from_then_on_whatever_is_cut_and_restarts() {
        for count in 1..=3 {
            let start = started(u128::from(count));
            let all = situations(count);
            let known = all.iter().filter(|places| {
                // Each life has a host that the other one has heard of.
                meet(places) && [0, 1].iter().all(|life| !held(places, *life).is_empty())
            });
            for before in known {
                let lives = [0, 1].map(|life| {
                    let mut state = start.clone();
                    look(&mut state, before, life);
                    state
                });
                let same_owners = |after: &&Vec<Place>| {
                    after
                        .iter()
                        .zip(before)
                        .all(|(after, before)| after.of == before.of)
                };
                for after in all.iter().filter(same_owners) {
                    let acting = [0, 1].into_iter().filter(|life| {
                        let mut state = lives[*life].clone();
                        state.volatile = Default::default();
                        look(&mut state, after, *life);
                        acts(&state)
                    });
                    assert!(acting.count() <= 1, "{before:?}, then {after:?}");
                }
            }
        }
    }

    #[test]
    fn what_hosts_said_before_the_process_stood_still_counts_for_nothing() {
        let mut state = started(2);
        let places = [Place {
            of: 0,
            reached: [true, false],
        }; 2];
        look(&mut state, &places, 0);
        assert!(acts(&state));
        take(&mut state, Input::StoodStill);
        assert!(matches!(state.stance(), Stance::Undecided(fault) if fault.code == FaultCode::Loading));
        assert!(state.held().is_empty());
        take(&mut state, Input::HostAway { host_id: host_id(1) });
        assert!(!acts(&state));
        look(&mut state, &places, 0);
        assert!(acts(&state));
    }

    #[test]
    fn the_end_of_a_connection_from_before_a_standstill_says_nothing_about_whose_a_host_is() {
        let away = || Input::HostAway { host_id: host_id(0) };
        for ends_first in [false, true] {
            let mut state = started(1);
            let reached = Place {
                of: 0,
                reached: [true, false],
            };
            look(&mut state, &[reached], 0);
            assert!(acts(&state));
            let inputs = match ends_first {
                true => [away(), Input::StoodStill],
                false => [Input::StoodStill, away()],
            };
            for input in inputs {
                take(&mut state, input);
            }
            assert!(!acts(&state), "{ends_first}");
            // The first attempt to connect after the standstill.
            take(&mut state, away());
            assert!(acts(&state), "{ends_first}");
        }
    }

    /// Such a life may also have any host that is away.
    #[test]
    fn a_life_that_is_proven_and_not_heard_is_outnumbered_or_obeyed() {
        let of = |of, reached| Place { of, reached };
        let (ours, theirs, away) = (of(0, [true, false]), of(1, [true, false]), of(0, [false; 2]));
        for (places, goes_on) in [
            (vec![ours, theirs], true),
            (vec![theirs, ours], false),
            (vec![ours, theirs, away], false),
            (vec![ours, theirs, ours], true),
            (vec![ours, away, theirs, ours], true),
            (vec![away, ours, theirs, ours], false),
        ] {
            let mut state = started(places.len() as u128);
            look(&mut state, &places, 0);
            assert_eq!(acts(&state), goes_on, "{places:?}");
        }
    }
}

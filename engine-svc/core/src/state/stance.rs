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
    /// It takes commands.
    Acts,
    /// It takes none yet: what hosts are still to say decides.
    Undecided(Fault),
    /// It takes none: another life of this engine goes on.
    Over(Fault),
}

/// What the hosts say of this start.
#[derive(Debug, Clone, Default)]
struct Votes {
    all: usize,
    /// They are this start's.
    ours: BTreeSet<HostId>,
    /// They are another life's, as they say.
    denied: BTreeSet<HostId>,
    /// Those of them that prove it.
    proven: BTreeSet<HostId>,
}

impl Votes {
    /// Whether it is another life that goes on. The word of hosts decides where more than half of all say so, or no host is
    /// this start's: one of many may lie. Of those that prove it no more than of this start's are wanted, and where there
    /// are as many, the host with the smallest id decides, so that of two lives that share the hosts one is over.
    fn are_lost(&self) -> bool {
        let by_word = 2 * self.denied.len() > self.all || (self.ours.is_empty() && !self.denied.is_empty());
        let by_proof = match self.proven.len().cmp(&self.ours.len()) {
            Ordering::Greater => true,
            Ordering::Equal => self.proven.first() < self.ours.first(),
            Ordering::Less => false,
        };
        by_word || by_proof
    }
}

/// How one host counts.
enum Vote<'a> {
    Ours,
    /// It does not answer, or is of no engine's that could be told from this one.
    Nobodys,
    Denied {
        fault: &'a Fault,
        is_proven: bool,
    },
    /// It was not asked yet: it may say anything.
    Unasked,
    /// It has not made up its mind: another start is connected there, or its connection is not known to be dead.
    PutOff(&'a Fault),
}

impl State {
    /// See [`Stance`].
    pub fn stance(&self) -> Stance {
        let (mut best, mut worst) = (Votes::default(), Votes::default());
        let (mut open, mut over) = (None, None);
        for host in self.hosts() {
            (best.all, worst.all) = (best.all + 1, worst.all + 1);
            let id = host.id;
            match self.vote(host) {
                Vote::Nobodys => {}
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
                Vote::Unasked => {
                    open.get_or_insert((id, None));
                    best.ours.insert(id);
                    worst.denied.insert(id);
                    worst.proven.insert(id);
                }
                Vote::PutOff(fault) => {
                    open.get_or_insert((id, Some(fault)));
                    best.ours.insert(id);
                    worst.denied.insert(id);
                }
            }
        }
        match (over, open) {
            (Some((id, fault)), _) if best.are_lost() => Stance::Over(is_over(id, fault)),
            (_, Some((id, fault))) if worst.are_lost() => Stance::Undecided(is_undecided(id, fault)),
            _ => Stance::Acts,
        }
    }

    fn vote(&self, host: &Host) -> Vote<'_> {
        if self.volatile.connected.contains_key(&host.id) {
            return Vote::Ours;
        }
        // A person has decided that it is to be this start's.
        if self.taking_over(host.id).is_some() {
            return Vote::Nobodys;
        }
        match self.host(host.id).and_then(|host| host.other_life.as_ref()) {
            Some(other) if other.fault.code == FaultCode::EngineStillConnected => Vote::PutOff(&other.fault),
            Some(other) => Vote::Denied {
                fault: &other.fault,
                is_proven: other.is_proven,
            },
            None if self.volatile.away.contains(&host.id) => Vote::Nobodys,
            None => Vote::Unasked,
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
            format!("the engine has just started and has not asked host {host_id} yet. Repeat in a moment"),
        ),
    };
    let message = format!(
        "nothing was done, because it is not known yet whether another life of this engine is active: {why}"
    );
    Fault::new(code, message).about(EntityKey::Host(host_id))
}

//! Hosts come, go, and come back as somebody else.

use std::sync::Arc;

use common::id::{HostId, StoreId, TaskId};
use common::{Fault, FaultCode, Start};

use super::tx::Tx;
use super::verdict::is_about_identity;
use crate::change::Change;
use crate::effect::Effect;
use crate::input::{HostFacts, OtherStart};
use crate::model::{AsyncTaskState, EntityKey, EventCode, Host, OtherLife, Purpose};
use crate::plan;
use crate::state::Life;

/// Incarnations that one process takes for what hosts prove: each is one more in the line, which is bounded, and hosts that
/// flap must not use it up.
const MAX_RENEWALS: u32 = 16;

impl Tx<'_> {
    /// It answers as the one that is followed: all that is still to be done there is asked for again.
    pub(super) fn host_connected(&mut self, host_id: HostId, facts: HostFacts) {
        if !self.state.is_followed(host_id) {
            // It was given up while this was on its way.
            return;
        }
        if let Some(other) = facts.engine_id.filter(|id| *id != self.state.seed.engine_id) {
            let message = format!("the host belongs to engine {other}");
            return self.host_refused(host_id, Fault::new(FaultCode::HostOwned, message), false);
        }
        let other = self
            .state
            .host(host_id)
            .and_then(|host| host.other_owner.as_ref());
        if facts.engine_id.is_some() && other.is_some() && self.state.taking_over(host_id).is_none() {
            return self.host_refused(host_id, put_back(host_id, other), false);
        }
        let life = Life {
            store_id: facts.store_id,
            start: facts.start,
        };
        let before = self.state.volatile.connected.insert(host_id, life);
        self.state.volatile.streams.remove(&host_id);
        self.state.volatile.away.remove(&host_id);
        self.state.volatile.doubted.remove(&host_id);
        if self.state.host(host_id).is_some() {
            if before.is_none() {
                let other = self.state.host(host_id).and_then(|host| host.other_life.as_ref());
                let again = if other.is_some_and(|other| other.is_proven) {
                    "; another life of this engine had it, and it belongs to this one again: it was taken over, or an older copy of its data directory was restored"
                } else {
                    ""
                };
                let message = format!("{} is connected{again}", self.state.named_host(host_id));
                self.emit_about(EventCode::HostConnected, vec![EntityKey::Host(host_id)], message);
            }
            self.note_other_life(host_id, None);
            self.note_other_owner(host_id, None);
            self.see_start(host_id, &facts);
            self.see_store(host_id, facts.store_id);
            self.address_unsent(host_id, facts.start);
            self.look_for_the_risen(host_id);
            self.forget_orphans(host_id, &facts);
            if facts.engine_id.is_none() && !self.is_being_released(host_id) {
                self.effect(Effect::Reclaim { host_id });
            }
            self.take_up_after_refusal(host_id);
        }
        for id in self.state.calls_to(host_id) {
            self.call_again(id);
        }
        let calls = |effect: &Effect| matches!(effect, Effect::Call { .. });
        let rest: Vec<Effect> = self
            .state
            .outstanding(host_id)
            .into_iter()
            .filter(|e| !calls(e))
            .collect();
        self.effects(rest);
    }

    pub(super) fn host_away(&mut self, host_id: HostId) {
        let was_here = self.state.volatile.connected.remove(&host_id).is_some();
        self.state.volatile.streams.remove(&host_id);
        let was_doubted = self.state.volatile.doubted.remove(&host_id);
        if self.state.host(host_id).is_none() {
            return;
        }
        match was_doubted {
            // What ended is a connection from before the standstill, which says nothing about whose the host is now.
            true => {
                let asked =
                    |effect: &Effect| matches!(effect, Effect::Follow { host_id: id, .. } if *id == host_id);
                let again: Vec<Effect> = self.hosts_to_follow().into_iter().filter(asked).collect();
                self.effects(again);
            }
            false => {
                self.state.volatile.away.insert(host_id);
            }
        }
        if was_here {
            let host = self.state.named_host(host_id);
            let message = format!("{host} does not answer; its tasks stay as they are");
            self.emit_about(EventCode::HostAway, vec![EntityKey::Host(host_id)], message);
        }
    }

    /// What is to be done there waits: the host lets this start in, or refuses it, within a bounded time.
    pub(super) fn host_puts_off(&mut self, host_id: HostId, fault: Fault) {
        self.host_away(host_id);
        let is_proven = false;
        self.note_other_life(host_id, Some(OtherLife { fault, is_proven }));
    }

    /// What is to be done there can go on only if somebody sets it right, so all of it rests.
    pub(super) fn host_refused(&mut self, host_id: HostId, fault: Fault, is_proven: bool) {
        self.state.volatile.forget(host_id);
        for id in self.state.calls_to(host_id) {
            self.refuse_call(id, &fault);
        }
        if self.state.host(host_id).is_none() {
            return;
        }
        let was_asked = !self.state.volatile.away.insert(host_id);
        let before = self.state.host(host_id).and_then(|host| host.other_life.as_ref());
        let is_known =
            before.is_some_and(|other| (other.fault.code, other.is_proven) == (fault.code, is_proven));
        let code = if fault.code == FaultCode::EngineFenced {
            let other = OtherLife {
                fault: fault.clone(),
                is_proven,
            };
            if self.note_other_life(host_id, Some(other)) {
                self.renew();
            }
            EventCode::EngineFenced
        } else {
            EventCode::HostRefused
        };
        let lost = fault.code == FaultCode::HostOwned && self.note_other_owner(host_id, Some(&fault));
        let lost = if lost {
            ". It belonged to this engine: another engine has taken it over, or its data directory was restored from a copy made before this engine had it. This engine's records about it are outdated; nothing is sent to it until somebody has it taken over"
        } else {
            ""
        };
        // That another start of the same life has it by now is no news: one may start each second.
        if !(was_asked && is_known) {
            let message = format!("{} is refused: {fault}{lost}", self.state.named_host(host_id));
            self.emit_about(code, vec![EntityKey::Host(host_id)], message);
        }
        for task_id in self.state.tasks_on(host_id) {
            self.needs_somebody(task_id, fault.clone());
        }
    }

    /// Other lives say at a host which hosts they have: what this start does not see of it itself, it knows from then on as if
    /// those hosts had shown it.
    pub(super) fn lives_met(&mut self, via: HostId, lives: &[OtherStart]) {
        if !self.state.is_followed(via) {
            return;
        }
        for life in lives {
            for host_id in &life.holds {
                self.is_held_by(*host_id, life, via);
            }
        }
        let held = lives.iter().flat_map(|life| life.holds.iter().copied()).collect();
        // Unless it was for that that all hosts are followed anew: then they are heard anew as well.
        match lives.is_empty() || self.renews {
            true => self.state.volatile.met.remove(&via),
            false => self.state.volatile.met.insert(via, held),
        };
    }

    fn is_held_by(&mut self, host_id: HostId, life: &OtherStart, via: HostId) {
        let is_ours = self.state.volatile.connected.contains_key(&host_id);
        if is_ours || self.state.host(host_id).is_none() {
            return;
        }
        let message = format!(
            "host {host_id} belongs to another start of this engine (incarnation {}), which is at work and says so through host {via}: another engine runs on a copy of this data directory. Stop the engine that is not to have the host; if this one is, have the host taken over (TakeOverHost)",
            life.incarnation
        );
        let fault = Fault::new(FaultCode::EngineFenced, message).about(EntityKey::Host(host_id));
        let told = fault.message.to_string();
        let is_proven = true;
        if self.note_other_life(host_id, Some(OtherLife { fault, is_proven })) {
            self.renew();
            self.emit_about(EventCode::EngineFenced, vec![EntityKey::Host(host_id)], told);
        }
    }

    /// The hosts are asked anew whose they are, and nothing is taken before they have answered.
    pub(super) fn stood_still(&mut self) {
        let connected = self.state.volatile.connected.keys().copied();
        self.state.volatile.doubted = connected.collect();
        // That a host is away may have been noticed only now, by the end of a connection from before.
        self.state.volatile.away.clear();
        self.follow_anew();
    }

    fn follow_anew(&mut self) {
        // What followers have heard goes with them.
        self.state.volatile.met.clear();
        let again = self.hosts_to_follow();
        self.effects(again);
    }

    /// Whether another life has the host is known before it answers again, which may take long. What was proved stays so
    /// until the host is this start's. Whether it is proved only now.
    fn note_other_life(&mut self, host_id: HostId, said: Option<OtherLife>) -> bool {
        let Some(host) = self.state.host(host_id) else {
            return false;
        };
        let kind = |other: &OtherLife| (other.is_proven, other.fault.code);
        let before = host.other_life.as_ref().map(kind);
        let now = said.as_ref().map(kind);
        let was_proven = before.is_some_and(|(is_proven, _)| is_proven);
        let is_proven = now.is_some_and(|(is_proven, _)| is_proven);
        // Which start it is may have changed, and is told.
        let is_known = before == now && said == host.other_life;
        if is_known || (was_proven && now.is_some() && !is_proven) {
            return false;
        }
        let host = Host {
            other_life: said,
            ..host.clone()
        };
        self.put(Change::Host(Arc::new(host)));
        is_proven && !was_proven
    }

    /// Whether another engine had it is known when it says that it is this one's again. Whether that was news.
    fn note_other_owner(&mut self, host_id: HostId, said: Option<&Fault>) -> bool {
        let Some(host) = self.state.host(host_id) else {
            return false;
        };
        if host.other_owner.is_some() == said.is_some() {
            return false;
        }
        let host = Host {
            other_owner: said.cloned(),
            ..host.clone()
        };
        self.put(Change::Host(Arc::new(host)));
        true
    }

    /// Another life goes on from a copy, perhaps of what this very start has recorded: then it takes the hosts that are this
    /// start's for those of a start before it. By another incarnation they prove to it that they are not.
    fn renew(&mut self) {
        if self.state.volatile.renewals < MAX_RENEWALS {
            self.state.volatile.renewals += 1;
            self.renews = true;
            self.follow_anew();
        }
    }

    fn refuse_call(&mut self, id: common::id::CommandId, fault: &Fault) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        if let Some(calling) = plan::calling(command) {
            let next = calling.refused(command, fault.clone());
            self.take(id, next);
        }
    }

    /// The host is itself again.
    fn take_up_after_refusal(&mut self, host_id: HostId) {
        for task_id in self.state.tasks_on(host_id) {
            let refused = self
                .state
                .task(task_id)
                .and_then(|task| task.attention())
                .is_some_and(is_about_identity);
            if refused {
                self.settle_down(task_id);
                self.decide_for(task_id);
            }
        }
    }

    /// What a start knows, the next one knows, unless its directory was put back from an older copy. Then the points that
    /// were followed are not in its history, and what was heard of its tasks is nothing that it counts on from.
    /// The same goes for a start that is known and does not know the point: no stream would ever go on from there.
    fn see_start(&mut self, host_id: HostId, facts: &HostFacts) {
        let Some(host) = self.state.host(host_id) else {
            return;
        };
        let is_known = host.start == Some(facts.start);
        if is_known && facts.forgotten.is_empty() {
            return;
        }
        let same_store = host.store_id == Some(facts.store_id);
        // Where it was not asked about the last point, nothing proves that it knows it.
        let unproven =
            !is_known && host.start.is_some() && (host.cursor.is_none() || facts.followed != host.cursor);
        let is_older = same_store && (unproven || !facts.forgotten.is_empty());
        let host = Host {
            start: Some(facts.start),
            cursor: host.cursor.filter(|_| !is_older),
            ..host.clone()
        };
        if is_older {
            self.count_anew(host_id);
        }
        // Last: of a change that took several revisions a store may have kept only the first, and then all is done again.
        self.put(Change::Host(Arc::new(host)));
        if is_older && !facts.forgotten.is_empty() {
            self.emit_older_memory(host_id, facts);
            self.want_inventory(host_id);
        }
    }

    /// What was heard of its tasks is nothing that this memory of the host counts on from.
    fn count_anew(&mut self, host_id: HostId) {
        for task_id in self.state.tasks_on(host_id) {
            self.edit_task(task_id, |task| {
                task.host_sequence = 0;
                task.resynced |= task.is_open();
            });
        }
    }

    fn emit_older_memory(&mut self, host_id: HostId, facts: &HostFacts) {
        let message = format!(
            "{} has older records than before ({}): was its data directory restored from a copy? {} of its tasks are settled by what storage shows",
            self.state.named_host(host_id),
            facts.forgotten,
            self.undecided_on(host_id).len()
        );
        self.emit_about(
            EventCode::HostStoreChanged,
            vec![EntityKey::Host(host_id)],
            message,
        );
    }

    /// What was to be laid to rest there, and may not have been.
    fn look_for_the_risen(&mut self, host_id: HostId) {
        if let Some(host) = self.state.host(host_id).filter(|host| host.has_risen) {
            let host = Host {
                cursor: None,
                has_risen: false,
                ..host.clone()
            };
            self.put(Change::Host(Arc::new(host)));
        }
    }

    /// What was recorded while the host was away goes to its present start first.
    fn address_unsent(&mut self, host_id: HostId, start: Start) {
        for task_id in self.state.tasks_on(host_id) {
            self.edit_task(task_id, |task| {
                if task.command.is_some() && task.async_state == AsyncTaskState::Initializing {
                    task.start.get_or_insert(start);
                }
            });
        }
    }

    /// Another store than before ends nothing: what it was doing is undecided until storage has been looked at.
    fn see_store(&mut self, host_id: HostId, store_id: StoreId) {
        let Some(host) = self
            .state
            .host(host_id)
            .filter(|host| host.store_id != Some(store_id))
        else {
            return;
        };
        let before = host.store_id;
        let host = Host {
            store_id: Some(store_id),
            cursor: None,
            ..host.clone()
        };
        self.put(Change::Host(Arc::new(host)));
        let Some(before) = before else {
            return self.address_first(host_id, store_id);
        };
        // It may be one that it had before, put back from a copy: a task that was sent to it is not proven to be known there.
        self.count_anew(host_id);
        self.want_inventory(host_id);
        let undecided: Vec<TaskId> = self.undecided_on(host_id);
        let message = format!(
            "{} lost its records (store {before}, now {store_id}); {} of its tasks are settled by what storage shows",
            self.state.named_host(host_id),
            undecided.len()
        );
        self.emit_about(
            EventCode::HostStoreChanged,
            vec![EntityKey::Host(host_id)],
            message,
        );
    }

    fn undecided_on(&self, host_id: HostId) -> Vec<TaskId> {
        let tasks = self
            .state
            .tasks_on(host_id)
            .into_iter()
            .filter_map(|id| self.state.task(id));
        tasks
            .filter(|task| task.command.is_some() && self.state.is_undecided(task))
            .map(|task| task.id)
            .collect()
    }

    /// The first store that is known of a host is the one that its tasks are meant for.
    fn address_first(&mut self, host_id: HostId, store_id: StoreId) {
        for task_id in self.state.tasks_on(host_id) {
            self.edit_task(task_id, |task| {
                task.store_id.get_or_insert(store_id);
            });
        }
    }

    /// Somebody else's task of an earlier store, of which no process is left, holds nothing any more.
    fn forget_orphans(&mut self, host_id: HostId, facts: &HostFacts) {
        // Whoever is not named may be one of those that are not: absence is no proof.
        if facts.more_orphans {
            return;
        }
        for task_id in self.state.tasks_on(host_id) {
            let Some(task) = self.state.task(task_id) else {
                continue;
            };
            let gone = task.purpose == Purpose::Foreign
                && task.store_id != Some(facts.store_id)
                && !facts.orphan_task_ids.contains(&task_id);
            if gone {
                self.clear_locally(task_id);
            }
        }
    }

    fn is_being_released(&self, host_id: HostId) -> bool {
        let calls = self
            .state
            .calls_to(host_id)
            .into_iter()
            .filter_map(|id| self.state.command(id));
        calls.filter_map(plan::calling).any(|calling| calling.gives_up())
    }
}

/// Why a host is not taken that says that it is this engine's, after it had said that it is another one's.
#[must_use]
pub fn put_back(host_id: HostId, said: Option<&Fault>) -> Fault {
    let said = said
        .map(|fault| format!(" ({})", fault.message))
        .unwrap_or_default();
    let message = format!(
        "the host belonged to another engine{said}, and now says that it belongs to this one, although nobody has decided so: an older copy of its data directory was restored. Have it taken over (TakeOverHost) by the engine that is to have it"
    );
    Fault::new(FaultCode::HostOwned, message).about(host_id)
}

//! Effects that wait on a connected host because a call about the same subject is under way there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use engine_core::effect::Effect;
use tokio::sync::watch;
use uuid::Uuid;

use super::call::kind;

/// The subject of an effect: two calls about the same subject never run at once, and the newest effect is the wanted
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject(&'static str, Uuid);

impl Subject {
    fn of(effect: &Effect) -> Self {
        let id = match effect {
            Effect::StartTask { task_id, .. }
            | Effect::AbortTask { task_id, .. }
            | Effect::ClearTask { task_id, .. }
            | Effect::ProbeTask { task_id, .. } => task_id.as_uuid(),
            Effect::Call { command_id, .. } => command_id.as_uuid(),
            Effect::ObserveDisk { disk_id, .. } => disk_id.as_uuid(),
            Effect::Follow { host_id, .. }
            | Effect::Unfollow { host_id }
            | Effect::Reclaim { host_id }
            | Effect::TakeInventory { host_id, .. }
            | Effect::Resync { host_id } => host_id.as_uuid(),
        };
        Self(kind(effect), id)
    }
}

/// The wanted effect of each subject about which a call is under way.
#[derive(Debug, Default)]
pub(super) struct PendingEffects(HashMap<Subject, watch::Sender<Effect>>);

impl PendingEffects {
    /// If no call about the same subject is under way, `effect` is to begin, and the returned receiver says when
    /// another effect is wanted in its place. Otherwise the effect waits for the call's end: a host that is released
    /// and claimed at once would be left in the state of whichever call it heard last.
    pub(super) fn want(&mut self, effect: &Effect) -> Option<watch::Receiver<Effect>> {
        match self.0.entry(Subject::of(effect)) {
            Entry::Occupied(wanted) => {
                wanted.get().send_if_modified(|newest| {
                    let is_another = newest != effect;
                    newest.clone_from(effect);
                    is_another
                });
                None
            }
            Entry::Vacant(place) => {
                let (sender, wanted) = watch::channel(effect.clone());
                place.insert(sender);
                Some(wanted)
            }
        }
    }

    /// The effect that is wanted after the end of `effect`, unless that very effect was just performed. An effect
    /// that was given up for another one may be wanted again.
    pub(super) fn has_ended(&mut self, effect: &Effect, is_done: bool) -> Option<Effect> {
        let wanted = self.0.remove(&Subject::of(effect))?;
        let newest = wanted.borrow().clone();
        (!(is_done && newest == *effect)).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use common::id::{CommandId, HostId, TaskId};
    use engine_core::model::HostCall;

    use super::*;

    fn call(command: u128, call: HostCall) -> Effect {
        Effect::Call {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            command_id: CommandId::from_uuid(Uuid::from_u128(command)),
            call,
            correlation_id: String::new(),
        }
    }

    #[test]
    fn the_same_is_begun_once() {
        let mut pending = PendingEffects::default();
        let wanted = pending.want(&call(1, HostCall::Claim)).unwrap();
        assert!(pending.want(&call(1, HostCall::Claim)).is_none());
        assert!(!wanted.has_changed().unwrap());
        assert_eq!(pending.has_ended(&call(1, HostCall::Claim), true), None);
        assert!(pending.want(&call(1, HostCall::Claim)).is_some());
    }

    #[test]
    fn the_newest_is_done_next() {
        let mut pending = PendingEffects::default();
        let wanted = pending.want(&call(1, HostCall::Claim)).unwrap();
        assert!(pending.want(&call(1, HostCall::Release)).is_none());
        assert!(wanted.has_changed().unwrap());
        let next = pending.has_ended(&call(1, HostCall::Claim), true);
        assert_eq!(next, Some(call(1, HostCall::Release)));
    }

    #[test]
    fn what_was_given_up_and_is_wanted_again_is_begun_anew() {
        for given_up in [true, false] {
            let mut pending = PendingEffects::default();
            let _wanted = pending.want(&call(1, HostCall::Claim));
            let _ = pending.want(&call(1, HostCall::Release));
            let _ = pending.want(&call(1, HostCall::Claim));
            let next = pending.has_ended(&call(1, HostCall::Claim), !given_up);
            assert_eq!(next, given_up.then(|| call(1, HostCall::Claim)));
        }
    }

    #[test]
    fn others_are_in_nobodys_way() {
        let mut pending = PendingEffects::default();
        let (host_id, task_id) = (
            HostId::from_uuid(Uuid::from_u128(1)),
            TaskId::from_uuid(Uuid::from_u128(1)),
        );
        let abort = Effect::AbortTask {
            host_id,
            task_id,
            store_id: None,
            correlation_id: String::new(),
        };
        for effect in [
            call(1, HostCall::Claim),
            call(2, HostCall::Release),
            abort,
            Effect::ClearTask {
                host_id,
                task_id,
                correlation_id: String::new(),
            },
        ] {
            assert!(pending.want(&effect).is_some(), "{effect:?}");
        }
    }
}

//! Gives a host up: it belongs to nobody then, and is followed no longer.

use common::id::HostId;
use common::lock::Mode;
use common::{Fault, FaultCode};

use super::{Draft, End, Next, absent, next};
use crate::change::Change;
use crate::effect::HostCall;
use crate::model::{Command, EntityKey, Parameters};
use crate::state::State;

/// See [`crate::model::Parameters::RemoveHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveHost {
    /// Which.
    pub host_id: HostId,
}

pub(super) fn draft(state: &State, wanted: &RemoveHost) -> Result<Draft, Fault> {
    if state.host(wanted.host_id).is_none() {
        return Err(absent(state, &EntityKey::Host(wanted.host_id), "host_id"));
    }
    if let Some(domain) = state.domains_on(wanted.host_id).next() {
        let message = format!("the host still serves storage domain {domain}");
        return Err(Fault::new(FaultCode::EntityInUse, message).about("host_id"));
    }
    Ok(Draft {
        locks: vec![(EntityKey::Host(wanted.host_id), Mode::Exclusive)],
        children: Vec::new(),
        parameters: Parameters::RemoveHost(wanted.clone()),
        forbidden: None,
    })
}

/// Do: release. Undo, where the release may have been heard: claim. Stopped before that, it simply ends.
pub(super) fn call(command: &Command) -> HostCall {
    if command.cancel_requested {
        HostCall::Claim
    } else {
        HostCall::Release
    }
}

pub(super) fn answered(command: &Command, p: &RemoveHost, result: Result<(), Fault>) -> Next {
    match (call(command), result) {
        (HostCall::Claim, Ok(())) => End::without_trace(command, None),
        (HostCall::Claim, Err(fault)) => next::rest(command, fault, false),
        (_, Ok(())) => End::succeeded(vec![Change::HostRemoved(p.host_id)]),
        // Another engine's by now: given up more thoroughly than was asked.
        (_, Err(fault)) if matches!(fault.code, FaultCode::HostOwned | FaultCode::HostNotOwned) => {
            End::succeeded(vec![Change::HostRemoved(p.host_id)])
        }
        (_, Err(fault)) => End::without_trace(command, Some(fault)),
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use super::RemoveHost;
    use crate::input::{Ask, Input};
    use crate::model::CommandState::*;
    use crate::step::Reply;
    use crate::testing::{World, add_host, command_id, host_id};

    fn added() -> World {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        world.settle();
        world
    }

    fn remove() -> Ask {
        Ask::RemoveHost(RemoveHost { host_id: host_id(0) })
    }

    #[test]
    fn a_host_that_is_given_up_is_nobodys_and_followed_no_longer() {
        let mut world = added();
        world.submit(2, "RemoveHost", remove());
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert!(world.engine.state.host(host_id(0)).is_none());
        assert!(world.hosts[&host_id(0)].owner.is_none());
        assert!(world.followed.is_empty());
    }

    #[test]
    fn one_that_serves_a_domain_stays() {
        let mut world = World::with_domains(1);
        let Reply::Refused(fault) = world.submit(1, "RemoveHost", remove()) else {
            panic!("it serves a domain");
        };
        assert_eq!(fault.code, FaultCode::EntityInUse);
    }

    #[test]
    fn stopped_once_the_host_may_have_heard_of_it_the_host_is_claimed_again() {
        let mut world = added();
        world.submit(2, "RemoveHost", remove());
        world.perform(0, true);
        assert!(world.hosts[&host_id(0)].owner.is_none());
        world.step(Input::Cancel {
            command_id: command_id(2),
            user: "ann".into(),
        });
        world.settle();
        assert_eq!(world.state_of(2), Cancelled);
        assert!(world.hosts[&host_id(0)].owner.is_some());
        assert!(world.engine.state.host(host_id(0)).is_some());
    }
}

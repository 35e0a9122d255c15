//! Gives a host up: afterwards the host belongs to nobody, and the engine follows it no longer.

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{Command, CommandState, EntityKey, HostCall, RemoveHost};
use crate::plan::at::At;
use crate::plan::next::{End, Next, call_awaited, rest};
use crate::plan::tree::Plan;
use crate::plan::verb::{Calling, CommandVerb, Following, Root};
use crate::plan::words::absent;
use crate::state::State;

impl Root for RemoveHost {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        if state.host(request.host_id).is_none() {
            return Err(absent(state, &EntityKey::Host(request.host_id), "host_id"));
        }
        if let Some(domain) = state.domains_on(request.host_id).next() {
            let message = format!("the host still serves storage domain {domain}");
            return Err(Fault::new(FaultCode::EntityInUse, message).about("host_id"));
        }
        let locks = vec![(EntityKey::Host(request.host_id), Mode::Exclusive)];
        Ok(Plan::of(request.clone(), locks))
    }
}

impl CommandVerb for RemoveHost {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        // A store may have kept only the first revision of the command's end: then nobody follows the host, and no
        // verdict comes.
        if at.state.host(self.host_id).is_none() {
            return End::succeeded(Vec::new());
        }
        call_awaited(at.command)
    }

    fn undoing(&self, at: At<'_>) -> bool {
        at.command.cancel_requested && at.command.call_sent
    }

    fn calling(&self) -> Option<&dyn Calling> {
        Some(self)
    }
}

impl Calling for RemoveHost {
    /// Do: release. Undo, if the host may have heard of the release: claim. If the command is stopped before that, it
    /// simply ends.
    fn call(&self, command: &Command) -> HostCall {
        if command.cancel_requested {
            HostCall::Claim
        } else {
            HostCall::Release
        }
    }

    fn answered(&self, at: At<'_>, result: Result<(), Fault>) -> Next {
        let command = at.command;
        match (self.call(command), result) {
            (HostCall::Claim, Ok(())) => End::without_trace(command, None),
            (HostCall::Claim, Err(fault)) => rest(command, fault, false),
            (_, Ok(())) => End::succeeded(vec![Change::HostRemoved(self.host_id)]),
            // The host belongs to another engine by now: it is given up even more thoroughly than requested.
            (_, Err(fault)) if matches!(fault.code, FaultCode::HostOwned | FaultCode::HostNotOwned) => {
                End::succeeded(vec![Change::HostRemoved(self.host_id)])
            }
            (_, Err(fault)) => End::without_trace(command, Some(fault)),
        }
    }

    fn has_opposite(&self) -> bool {
        true
    }

    fn gives_up(&self) -> bool {
        true
    }

    fn ended(&self, at: At<'_>) -> Vec<Following> {
        match at.command.state {
            CommandState::Succeeded => vec![Following::TasksForgotten, Following::NoLonger],
            // The host stays this engine's, and is followed as before.
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use super::RemoveHost;
    use crate::input::Input;
    use crate::model::CommandRequest;
    use crate::model::CommandState::*;
    use crate::testing::{World, add_host, command_id, host_id, refusal};

    fn added() -> World {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        world.settle();
        world
    }

    fn remove() -> CommandRequest {
        CommandRequest::RemoveHost(RemoveHost { host_id: host_id(0) })
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
        let fault = refusal(world.submit(1, "RemoveHost", remove()));
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

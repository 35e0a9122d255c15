//! Takes a host for this engine: connects to the address, checks that the host has this id and no other owner, claims
//! the host, and follows it from then on.

use std::sync::Arc;

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{AddHost, Command, CommandState, EntityKey, Host, HostCall};
use crate::plan::at::At;
use crate::plan::next::{End, Next, call_awaited, rest};
use crate::plan::tree::Plan;
use crate::plan::verb::{Calling, CommandVerb, Following, Root};
use crate::state::State;

impl Root for AddHost {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        if state.host(request.host_id).is_some() {
            let id = request.host_id;
            let message = format!("host {id} was added already; to change its address, remove it first");
            return Err(Fault::new(FaultCode::EntityExists, message).about("host_id"));
        }
        let locks = vec![(EntityKey::Host(request.host_id), Mode::Exclusive)];
        Ok(Plan::of(request.clone(), locks))
    }
}

impl CommandVerb for AddHost {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        call_awaited(at.command)
    }

    fn undoing(&self, at: At<'_>) -> bool {
        at.command.cancel_requested && at.command.call_sent
    }

    fn calling(&self) -> Option<&dyn Calling> {
        Some(self)
    }
}

impl Calling for AddHost {
    /// Do: claim. Undo, if the host may have heard of the claim: release. If the command is stopped before that, it
    /// simply ends.
    fn call(&self, command: &Command) -> HostCall {
        if command.cancel_requested {
            HostCall::Release
        } else {
            HostCall::Claim
        }
    }

    fn answered(&self, at: At<'_>, result: Result<(), Fault>) -> Next {
        let command = at.command;
        match (self.call(command), result) {
            (HostCall::Release, Ok(())) => End::without_trace(command, None),
            (HostCall::Release, Err(fault)) if not_ours(&fault) => End::without_trace(command, None),
            (HostCall::Release, Err(fault)) => rest(command, fault, false),
            (_, Ok(())) => End::succeeded(vec![Change::Host(Arc::new(added(at.state, self)))]),
            (_, Err(fault)) => End::without_trace(command, Some(fault)),
        }
    }

    /// Another host answers at the address, or the host belongs to another engine.
    fn refused(&self, command: &Command, fault: Fault) -> Next {
        if !command.call_sent || not_ours(&fault) {
            End::without_trace(command, Some(fault))
        } else {
            // The host that answered there before may be claimed by now, and nobody can reach it.
            rest(command, fault, false)
        }
    }

    fn has_opposite(&self) -> bool {
        true
    }

    fn follows(&self, _state: &State) -> Option<(&str, &str)> {
        Some((&self.address, &self.identity))
    }

    fn ended(&self, at: At<'_>) -> Vec<Following> {
        vec![if at.command.state == CommandState::Succeeded {
            Following::Anew
        } else {
            Following::NoLonger
        }]
    }
}

fn not_ours(fault: &Fault) -> bool {
    matches!(
        fault.code,
        FaultCode::HostOwned | FaultCode::HostNotOwned | FaultCode::EngineFenced
    )
}

fn added(state: &State, p: &AddHost) -> Host {
    let life = state.volatile.connected.get(&p.host_id);
    Host {
        id: p.host_id,
        name: p.name.clone(),
        address: p.address.clone(),
        identity: p.identity.clone(),
        store_id: life.map(|life| life.store_id),
        start: life.map(|life| life.start),
        cursor: None,
        has_risen: false,
        other_life: None,
        other_owner: None,
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::model::CommandRequest;
    use crate::model::CommandState::*;
    use crate::model::RemoveHost;
    use crate::testing::{World, add_host, cancel, command_id, host_id, refusal};

    #[test]
    fn a_host_is_ours_once_it_has_been_claimed() {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        assert!(
            world.engine.state.host(host_id(0)).is_none(),
            "not before its answer"
        );
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        let host = world.engine.state.host(host_id(0)).unwrap();
        assert_eq!(host.store_id, Some(world.hosts[&host_id(0)].store));
        assert!(host.cursor.is_some(), "and followed from then on");
    }

    #[test]
    fn while_the_address_does_not_answer_it_waits_and_stopping_it_simply_ends_it() {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        assert_eq!(world.state_of(1), Active);
        world.step(cancel(1));
        assert_eq!(world.state_of(1), Cancelled);
        assert!(world.followed.is_empty());
    }

    #[test]
    fn stopped_once_the_host_may_have_heard_of_it_the_host_is_released_first() {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        world.connect(host_id(0));
        world.perform(0, true);
        assert!(world.hosts[&host_id(0)].owner.is_some());
        world.step(cancel(1));
        assert_eq!(world.state_of(1), Compensating);
        world.crash();
        world.settle();
        assert_eq!(world.state_of(1), Cancelled);
        assert!(world.hosts[&host_id(0)].owner.is_none());
    }

    #[test]
    fn of_a_host_that_was_given_up_nothing_is_kept_for_its_next_life() {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        world.settle();
        let given_up = CommandRequest::RemoveHost(RemoveHost { host_id: host_id(0) });
        world.submit(2, "RemoveHost", given_up);
        world.settle();
        // The host says this before the engine stops following it, and the engine hears it after.
        let facts = world.hosts[&host_id(0)].facts(None);
        world.step(Input::HostConnected {
            host_id: host_id(0),
            facts,
        });
        world.submit(3, "AddHost", add_host(0));
        assert!(!world.root(3).call_sent, "the host has not answered yet");
        world.step(Input::Cancel {
            command_id: command_id(3),
            user: "ann".into(),
        });
        assert_eq!(world.state_of(3), Cancelled);
    }

    #[test]
    fn another_engines_host_is_not_taken() {
        let mut world = World::new(1);
        world.host_mut(0).call_fault = Some(FaultCode::HostOwned);
        world.submit(1, "AddHost", add_host(0));
        world.settle();
        assert_eq!(world.state_of(1), Failed);
        assert_eq!(
            world.root(1).fault.as_ref().map(|f| f.code),
            Some(FaultCode::HostOwned)
        );
    }

    #[test]
    fn a_host_is_added_once() {
        let mut world = World::with_domains(1);
        let fault = refusal(world.submit(1, "AddHost", add_host(0)));
        assert_eq!(
            (fault.code, fault.subject.as_str()),
            (FaultCode::EntityExists, "host_id")
        );
    }
}

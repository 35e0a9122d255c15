//! Creates a storage domain on a host.
//!
//! The command has no undo: a host answers for a domain of the same id and name as if it had just made the domain, so
//! an undo could destroy a domain that was there before. Therefore the command runs to its verdict once the host may
//! have heard of it, as a task does past its point of no return; the cancellation stays recorded.

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{Command, CreateStorageDomain, Domain, EntityKey, HostCall};
use crate::plan::at::At;
use crate::plan::next::{End, Next, call_awaited};
use crate::plan::tree::Plan;
use crate::plan::verb::{Calling, CommandVerb, Root};
use crate::plan::words::absent;
use crate::state::State;

impl Root for CreateStorageDomain {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        if state.host(request.host_id).is_none() {
            return Err(absent(state, &EntityKey::Host(request.host_id), "host_id"));
        }
        if state.domain(request.domain_id).is_some() {
            let message = format!("storage domain {} exists already", request.domain_id);
            return Err(Fault::new(FaultCode::EntityExists, message).about("domain_id"));
        }
        let locks = vec![
            (EntityKey::Domain(request.domain_id), Mode::Exclusive),
            (EntityKey::Host(request.host_id), Mode::Shared),
        ];
        Ok(Plan::of(request.clone(), locks))
    }
}

impl CommandVerb for CreateStorageDomain {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        call_awaited(at.command)
    }

    fn calling(&self) -> Option<&dyn Calling> {
        Some(self)
    }
}

impl Calling for CreateStorageDomain {
    fn call(&self, _command: &Command) -> HostCall {
        HostCall::CreateDomain {
            domain_id: self.domain_id,
            name: self.name.clone(),
        }
    }

    /// A refusal means that no domain is there: a host makes a domain whole or not at all.
    fn answered(&self, at: At<'_>, result: Result<(), Fault>) -> Next {
        match result {
            Ok(()) => End::succeeded(vec![Change::Domain(Domain {
                id: self.domain_id,
                name: self.name.clone(),
                host_id: self.host_id,
            })]),
            Err(fault) => End::without_trace(at.command, Some(fault)),
        }
    }

    fn has_opposite(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::model::CommandState::*;
    use crate::testing::{World, add_host, cancel, create_domain, domain_id, host_id};

    fn added() -> World {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        world.settle();
        world
    }

    #[test]
    fn a_domain_is_there_once_its_host_has_made_it() {
        let mut world = added();
        world.submit(2, "CreateStorageDomain", create_domain(0, 0));
        assert!(world.engine.state.domain(domain_id(0)).is_none());
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert!(world.engine.state.domain(domain_id(0)).is_some());
    }

    #[test]
    fn a_verdict_against_it_fails_it_cleanly() {
        let mut world = added();
        world.host_mut(0).call_fault = Some(FaultCode::DomainExists);
        world.submit(2, "CreateStorageDomain", create_domain(0, 0));
        world.settle();
        assert_eq!(world.state_of(2), Failed);
        assert!(world.root(2).left_behind.is_empty());
    }

    #[test]
    fn it_can_be_stopped_until_the_host_may_have_heard_of_it() {
        let mut world = added();
        world.disconnect(host_id(0));
        world.submit(2, "CreateStorageDomain", create_domain(0, 0));
        world.step(cancel(2));
        assert_eq!(world.state_of(2), Cancelled);
    }

    #[test]
    fn after_that_it_runs_to_its_verdict_and_keeps_the_wish() {
        let mut world = added();
        world.submit(2, "CreateStorageDomain", create_domain(0, 0));
        world.perform(0, true);
        world.step(cancel(2));
        assert_eq!(world.state_of(2), Active);
        world.settle();
        assert_eq!(
            (world.state_of(2), world.root(2).cancel_requested),
            (Succeeded, true)
        );
    }
}

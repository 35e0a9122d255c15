//! Creates a storage domain on a host.
//!
//! It has no undo: a host returns a domain of the same id and name as if it had just made it, so formatting it
//! could destroy one that was there before. So once the host may have heard of it, it runs to its verdict, as a
//! task does past its point of no return; the wish to stop it is kept.

use common::id::{DomainId, HostId};
use common::lock::Mode;
use common::{Fault, FaultCode};

use super::{Draft, End, Next, absent};
use crate::change::Change;
use crate::effect::HostCall;
use crate::model::{Command, Domain, EntityKey, Parameters};
use crate::state::State;

/// See [`crate::model::Parameters::CreateStorageDomain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStorageDomain {
    /// Its id: the caller's, or made by the shell.
    pub domain_id: DomainId,
    /// For people; storage keeps the first 50 characters.
    pub name: String,
    /// The host that will serve it.
    pub host_id: HostId,
}

pub(super) fn draft(state: &State, wanted: &CreateStorageDomain) -> Result<Draft, Fault> {
    if state.host(wanted.host_id).is_none() {
        return Err(absent(state, &EntityKey::Host(wanted.host_id), "host_id"));
    }
    if state.domain(wanted.domain_id).is_some() {
        let message = "there is a storage domain of this id already";
        return Err(Fault::new(FaultCode::EntityExists, message).about("domain_id"));
    }
    Ok(Draft {
        locks: vec![
            (EntityKey::Domain(wanted.domain_id), Mode::Exclusive),
            (EntityKey::Host(wanted.host_id), Mode::Shared),
        ],
        children: Vec::new(),
        parameters: Parameters::CreateStorageDomain(wanted.clone()),
        forbidden: None,
    })
}

pub(super) fn call(p: &CreateStorageDomain) -> HostCall {
    HostCall::CreateDomain {
        domain_id: p.domain_id,
        name: p.name.clone(),
    }
}

/// A verdict against it means that nothing is there: a host makes a domain whole or not at all.
pub(super) fn answered(command: &Command, p: &CreateStorageDomain, result: Result<(), Fault>) -> Next {
    match result {
        Ok(()) => End::succeeded(vec![Change::Domain(Domain {
            id: p.domain_id,
            name: p.name.clone(),
            host_id: p.host_id,
        })]),
        Err(fault) => End::without_trace(command, Some(fault)),
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::model::CommandState::*;
    use crate::testing::{World, add_host, command_id, create_domain, domain_id, host_id};

    fn cancel() -> Input {
        Input::Cancel {
            command_id: command_id(2),
            user: "ann".into(),
        }
    }

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
        world.step(cancel());
        assert_eq!(world.state_of(2), Cancelled);
    }

    #[test]
    fn after_that_it_runs_to_its_verdict_and_keeps_the_wish() {
        let mut world = added();
        world.submit(2, "CreateStorageDomain", create_domain(0, 0));
        world.perform(0, true);
        world.step(cancel());
        assert_eq!(world.state_of(2), Active);
        world.settle();
        assert_eq!(
            (world.state_of(2), world.root(2).cancel_requested),
            (Succeeded, true)
        );
    }
}

//! Creates a storage domain on a host.
//!
//! It has no undo: a host returns a domain of the same id and name as if it had just made it, so formatting it
//! could destroy one that was there before. So once the host may have heard of it, it runs to its verdict, as a
//! task does past its point of no return; the wish to stop it is kept.

use common::id::{DomainId, HostId};
use common::lock::Mode;
use common::{Fault, FaultCode};

use super::{Draft, End, Next};
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
        let message = "there is no such host; add it first";
        return Err(Fault::new(FaultCode::EntityNotFound, message).about("host_id"));
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

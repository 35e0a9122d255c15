//! Takes a host for this engine: connects to the address, sees that the host has this id and no other owner,
//! claims it, and follows it from then on.

use common::id::HostId;
use common::lock::Mode;
use common::{Fault, FaultCode};

use super::{Draft, End, Next, next};
use crate::change::Change;
use crate::effect::HostCall;
use crate::model::{Command, EntityKey, Host, Parameters};
use crate::state::State;

/// See [`crate::model::Parameters::AddHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddHost {
    /// The id that the host was configured with.
    pub host_id: HostId,
    /// For people.
    pub name: String,
    /// `host:port`.
    pub address: String,
}

pub(super) fn draft(state: &State, wanted: &AddHost) -> Result<Draft, Fault> {
    if state.host(wanted.host_id).is_some() {
        let message = "this host was added already; remove it first, or leave it";
        return Err(Fault::new(FaultCode::EntityExists, message).about("host_id"));
    }
    Ok(Draft {
        locks: vec![(EntityKey::Host(wanted.host_id), Mode::Exclusive)],
        children: Vec::new(),
        parameters: Parameters::AddHost(wanted.clone()),
    })
}

/// Do: claim. Undo, where the claim may have been heard: release. Stopped before that, it simply ends.
pub(super) fn call(command: &Command) -> HostCall {
    if command.cancel_requested {
        HostCall::Release
    } else {
        HostCall::Claim
    }
}

pub(super) fn answered(state: &State, command: &Command, p: &AddHost, result: Result<(), Fault>) -> Next {
    match (call(command), result) {
        (HostCall::Release, Ok(())) => End::without_trace(command, None),
        (HostCall::Release, Err(fault)) if not_ours(&fault) => End::without_trace(command, None),
        (HostCall::Release, Err(fault)) => next::rest(command, fault, false),
        (_, Ok(())) => End::succeeded(vec![Change::Host(added(state, p))]),
        (_, Err(fault)) => End::without_trace(command, Some(fault)),
    }
}

/// The address answers as another host, or as one of another engine's.
pub(crate) fn refused(command: &Command, fault: Fault) -> Next {
    if !command.call_sent || not_ours(&fault) {
        End::without_trace(command, Some(fault))
    } else {
        // The host that was there before may be claimed by now, and nobody can reach it.
        next::rest(command, fault, false)
    }
}

fn not_ours(fault: &Fault) -> bool {
    matches!(fault.code, FaultCode::HostOwned | FaultCode::HostNotOwned)
}

fn added(state: &State, p: &AddHost) -> Host {
    Host {
        id: p.host_id,
        name: p.name.clone(),
        address: p.address.clone(),
        store_id: state.volatile.connected.get(&p.host_id).copied(),
        cursor: None,
    }
}

//! Gives a host up: it belongs to nobody then, and is followed no longer.

use common::id::HostId;
use common::lock::Mode;
use common::{Fault, FaultCode};

use super::{Draft, End, Next, next};
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
        let message = "there is no such host";
        return Err(Fault::new(FaultCode::EntityNotFound, message).about("host_id"));
    }
    if let Some(domain) = state.domains_on(wanted.host_id).next() {
        let message = format!("the host still serves storage domain {domain}");
        return Err(Fault::new(FaultCode::EntityInUse, message).about("host_id"));
    }
    Ok(Draft {
        locks: vec![(EntityKey::Host(wanted.host_id), Mode::Exclusive)],
        children: Vec::new(),
        parameters: Parameters::RemoveHost(wanted.clone()),
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

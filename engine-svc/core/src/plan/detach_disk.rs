//! Takes a disk from its VM; the disk stays. Nothing but the inventory changes, so it is done by the very change that
//! accepts it.

use common::id::{DiskId, VmId};
use common::{Fault, FaultCode};

use super::attach_disk::{both, locks};
use super::{Draft, End, Next};
use crate::change::Change;
use crate::model::Parameters;
use crate::state::State;

/// See [`crate::model::Parameters::DetachDisk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachDisk {
    /// Which.
    pub disk_id: DiskId,
    /// From which VM.
    pub vm_id: VmId,
}

pub(super) fn draft(state: &State, wanted: &DetachDisk) -> Result<Draft, Fault> {
    both(state, wanted.disk_id, wanted.vm_id)?;
    let attached = state.vm_of(wanted.disk_id).map(|vm| vm.id);
    let message = match attached {
        Some(other) => format!("the disk is attached to VM {other}, not to this one"),
        None => "the disk is attached to no VM".to_owned(),
    };
    Ok(Draft {
        locks: locks(wanted.disk_id, wanted.vm_id),
        children: Vec::new(),
        parameters: Parameters::DetachDisk(wanted.clone()),
        forbidden: (attached != Some(wanted.vm_id))
            .then(|| Fault::new(FaultCode::DiskNotAttached, message).about("disk_id")),
    })
}

pub(super) fn next(state: &State, p: &DetachDisk) -> Next {
    let Some(vm) = state.vm(p.vm_id) else {
        return Next::Stay;
    };
    End::succeeded(vec![Change::Vm(vm.without(p.disk_id))])
}

//! Detaches a disk from its VM; the disk stays. Only the inventory changes, so the change that accepts the command
//! does it.

use common::id::CommandId;
use common::{Fault, FaultCode, Timestamp};

use super::attach_disk::{both, locks};
use crate::change::Change;
use crate::model::DetachDisk;
use crate::plan::at::At;
use crate::plan::next::{End, Next};
use crate::plan::tree::Plan;
use crate::plan::verb::{CommandVerb, Root};
use crate::state::State;

impl Root for DetachDisk {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        both(state, request.disk_id, request.vm_id)?;
        let attached = state.vm_of(request.disk_id).map(|vm| vm.id);
        let message = match attached {
            Some(other) => format!("the disk is attached to VM {other}, not to this one"),
            None => "the disk is attached to no VM".to_owned(),
        };
        Ok(Plan {
            forbidden: (attached != Some(request.vm_id))
                .then(|| Fault::new(FaultCode::DiskNotAttached, message).about("disk_id")),
            ..Plan::of(request.clone(), locks(request.disk_id, request.vm_id))
        })
    }
}

impl CommandVerb for DetachDisk {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        let Some(vm) = at.state.vm(self.vm_id) else {
            return Next::Stay;
        };
        End::succeeded(vec![Change::Vm(vm.without(self.disk_id))])
    }
}

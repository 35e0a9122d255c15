//! Removes a VM with its disks. The VM goes when every disk is gone, by the very change that ends the command; a
//! disk that could not be removed stays, and so does its VM.

use std::collections::BTreeSet;

use common::id::VmId;
use common::lock::Mode;
use common::{Fault, FaultCode};

use super::next::children_awaited;
use super::{Draft, End, Next, Part, remove_all_vm_images};
use crate::change::Change;
use crate::model::{Command, CommandState, EntityKey, Parameters};
use crate::plan::remove_all_vm_images::RemoveAllVmImages;
use crate::state::State;

/// See [`crate::model::Parameters::RemoveVm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveVm {
    /// Which.
    pub vm_id: VmId,
    /// Its name when the command was accepted.
    pub name: String,
}

pub(super) fn draft(state: &State, vm_id: VmId) -> Result<Draft, Fault> {
    let Some(vm) = state.vm(vm_id) else {
        return Err(Fault::new(FaultCode::EntityNotFound, "there is no such VM").about("vm_id"));
    };
    let images = RemoveAllVmImages {
        vm_id,
        disk_ids: vm.disk_ids.clone(),
    };
    let parts = remove_all_vm_images::parts(state, &images);
    Ok(Draft {
        locks: locks(vm_id, &vm.name, &parts),
        children: vec![Part {
            place: "images".to_owned(),
            children: parts,
            task: None,
            parameters: Parameters::RemoveAllVmImages(images),
        }],
        parameters: Parameters::RemoveVm(RemoveVm {
            vm_id,
            name: vm.name.clone(),
        }),
    })
}

fn locks(vm_id: VmId, name: &str, parts: &[Part]) -> Vec<(EntityKey, Mode)> {
    let mut shared = BTreeSet::new();
    let mut locks = vec![
        (EntityKey::Vm(vm_id), Mode::Exclusive),
        (EntityKey::VmName(name.to_owned()), Mode::Exclusive),
    ];
    for part in parts {
        if let Parameters::RemoveImage(p) = &part.parameters {
            locks.push((EntityKey::Disk(p.disk_id), Mode::Exclusive));
            shared.extend([EntityKey::Domain(p.domain_id), EntityKey::Host(p.host_id)]);
        }
    }
    locks.extend(shared.into_iter().map(|key| (key, Mode::Shared)));
    locks
}

pub(super) fn next(state: &State, command: &Command, p: &RemoveVm) -> Next {
    if !state.family(command.id).open.is_empty() {
        return children_awaited(state, command);
    }
    let Some(images) = command.children.first().and_then(|id| state.command(*id)) else {
        return Next::Stay;
    };
    if images.state == CommandState::Succeeded {
        return End::succeeded(vec![Change::VmRemoved(p.vm_id)]);
    }
    let mut left_behind = images.left_behind.clone();
    if !left_behind.is_empty() {
        left_behind.push(EntityKey::Vm(p.vm_id));
    }
    Next::End(Box::new(End {
        state: images.state,
        fault: images.fault.clone(),
        left_behind,
        inventory: Vec::new(),
    }))
}

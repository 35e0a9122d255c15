//! Removes one disk. Past the rename of its image there is no way back, so there is nothing to undo: before it
//! nothing was touched, after it the host deletes to the end.

use common::Timestamp;
use common::id::{DiskId, DomainId, HostId, VmId};

use super::create_image::{current_task, first_place, start, untouched};
use super::deletion::delete_image;
use super::next::{rest, task_awaited};
use super::{End, Next, PlannedTask};
use crate::change::Change;
use crate::model::{Command, CommandState, Disk, Ending, Observation, Presence, Purpose};
use crate::state::State;

/// See [`Parameters::RemoveImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveImage {
    /// The VM that it is attached to.
    pub vm_id: VmId,
    /// Which.
    pub disk_id: DiskId,
    /// Where it lies.
    pub domain_id: DomainId,
    /// The host that deletes it.
    pub host_id: HostId,
}

/// Do: no file of the image is left.
pub(super) fn delete(p: &RemoveImage) -> PlannedTask {
    delete_image(p.host_id, p.domain_id, p.disk_id)
}

/// A deletion that an operator has tried again runs as a task of its own: the verb purges what the last one left.
pub(super) fn next(state: &State, command: &Command, p: &RemoveImage, now: Timestamp) -> Next {
    let Some((task, place)) = current_task(state, command) else {
        return Next::Stay;
    };
    match task.ending() {
        None => task_awaited(command, task),
        Some(Ending::Done) => End::succeeded(gone(state, p)),
        Some(Ending::Untouched(fault)) => match untouched(command, task, fault) {
            Next::End(mut end) if end.state == CommandState::Failed => {
                end.inventory = unknown(state, p, now);
                Next::End(end)
            }
            other => other,
        },
        Some(Ending::Unclear(_)) if command.attempt > place.attempt => {
            start(Purpose::Do, first_place(command), delete(p))
        }
        Some(Ending::Unclear(fault)) => match rest(command, fault, false) {
            Next::Rest(mut rest) => {
                rest.inventory = unknown(state, p, now);
                Next::Rest(rest)
            }
            other => other,
        },
    }
}

/// The disk is gone, also from its VM.
fn gone(state: &State, p: &RemoveImage) -> Vec<Change> {
    let vm = state.vm(p.vm_id).map(|vm| {
        let mut vm = vm.clone();
        vm.disk_ids.retain(|id| *id != p.disk_id);
        Change::Vm(vm)
    });
    vm.into_iter().chain([Change::DiskRemoved(p.disk_id)]).collect()
}

/// The disk stays, and nobody knows any more what there is of it: storage must be looked at.
fn unknown(state: &State, p: &RemoveImage, now: Timestamp) -> Vec<Change> {
    let Some(disk) = state.disk(p.disk_id) else {
        return Vec::new();
    };
    vec![Change::Disk(Disk {
        observation: Some(Observation {
            presence: Presence::Unknown,
            time: now,
            note: "its removal did not end well; storage is being asked".to_owned(),
        }),
        ..disk.clone()
    })]
}

//! Removes one disk. Past the rename of its image there is no way back, so there is nothing to undo: before it
//! nothing was touched, after it the host deletes to the end.

use common::id::{DiskId, DomainId, HostId, VmId};
use common::{Fault, Timestamp};

use super::deletion::delete_image;
use super::leaf::{current_task, first_place, start, untouched};
use super::next::{again, rest, task_awaited};
use super::{End, Next, PlannedTask};
use crate::change::Change;
use crate::model::{AsyncTask, Command, CommandState, Disk, Ending, Observation, Presence, Purpose};
use crate::state::State;

/// See [`crate::model::Parameters::RemoveImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveImage {
    /// The VM that goes with it; none for a disk of its own.
    pub vm_id: Option<VmId>,
    /// Which.
    pub disk_id: DiskId,
    /// Where it lies.
    pub domain_id: DomainId,
    /// The host that deletes it.
    pub host_id: HostId,
    /// Its capacity, in bytes; 0 if not recorded.
    pub capacity_bytes: u64,
}

impl RemoveImage {
    /// The removal of a disk of the inventory; none where there is no such disk, or its host is not known.
    pub(super) fn of(state: &State, disk_id: DiskId, vm_id: Option<VmId>) -> Option<Self> {
        let spec = &state.disk(disk_id)?.spec;
        let domain = state.domain(spec.domain_id)?;
        Some(Self {
            vm_id,
            disk_id,
            domain_id: domain.id,
            host_id: domain.host_id,
            capacity_bytes: spec.capacity_bytes,
        })
    }
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
        Some(Ending::Untouched(fault)) => match again(command, task, place, &fault) {
            Some(place) => start(Purpose::Do, place, delete(p)),
            None => not_removed(state, command, task, fault, p, now),
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

fn not_removed(
    state: &State,
    command: &Command,
    task: &AsyncTask,
    fault: Fault,
    p: &RemoveImage,
    now: Timestamp,
) -> Next {
    match untouched(command, task, fault) {
        Next::End(mut end) if end.state == CommandState::Failed => {
            end.inventory = unknown(state, p, now);
            Next::End(end)
        }
        other => other,
    }
}

/// The disk is gone, first from its VM.
fn gone(state: &State, p: &RemoveImage) -> Vec<Change> {
    let vm = state.vm_of(p.disk_id).map(|vm| Change::Vm(vm.without(p.disk_id)));
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
            note: "its removal did not end well; storage has not shown yet what is left of it".into(),
        }),
        ..disk.clone()
    })]
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::model::CommandState::*;
    use crate::testing::{Fate, World, create_vm, disk_id, remove_vm, vm_id};

    fn with_a_vm() -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
        world.settle();
        world
    }

    #[test]
    fn what_a_restart_of_the_host_interrupted_is_sent_again() {
        let mut world = with_a_vm();
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::Interrupted); 2];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert_eq!(world.engine.state.vm(vm_id(1)), None);
    }

    #[test]
    fn a_disk_that_cannot_be_removed_stays_with_its_vm_and_is_looked_at() {
        let mut world = with_a_vm();
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::ImageInUse)];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        let root = world.root(2);
        assert_eq!(root.state, Failed);
        let vm = world.engine.state.vm(vm_id(1)).unwrap();
        assert_eq!(vm.disk_ids.len(), 1);
        let disk = world.engine.state.disk(vm.disk_ids[0]).unwrap();
        assert!(
            disk.observation
                .as_ref()
                .is_some_and(|o| o.presence == crate::model::Presence::Whole)
        );
        assert!([disk_id(1), disk_id(2)].contains(&vm.disk_ids[0]));
    }
}

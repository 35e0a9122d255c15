//! Removes one disk. There is nothing to undo: before the rename of the image nothing was touched, and after the
//! rename the host deletes to the end.

use common::Timestamp;
use common::id::{DiskId, VmId};

use crate::change::Change;
use crate::model::{Disk, Observation, PlannedTask, Presence, RemoveImage};
use crate::plan::deletion::delete_image;
use crate::plan::verb::{Leaf, Undo};
use crate::state::State;

impl RemoveImage {
    /// The removal of a disk of the inventory; none if there is no such disk, or its host is not known.
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

impl Leaf for RemoveImage {
    /// Do: no file of the image is left.
    fn make(&self) -> PlannedTask {
        delete_image(self.host_id, self.domain_id, self.disk_id)
    }

    /// A deletion that an operator retries runs as a task of its own: the verb purges what the last task left.
    fn unmake(&self) -> Undo {
        Undo::ByHost
    }

    /// The disk leaves its VM first, then the inventory.
    fn done(&self, state: &State) -> Vec<Change> {
        let vm = state.vm_of(self.disk_id);
        let vm = vm.map(|vm| Change::Vm(vm.without(self.disk_id)));
        vm.into_iter()
            .chain([Change::DiskRemoved(self.disk_id)])
            .collect()
    }

    /// The disk stays, and nobody knows any more how much of it is left: storage must be examined.
    fn not_done(&self, state: &State, now: Timestamp) -> Vec<Change> {
        let Some(disk) = state.disk(self.disk_id) else {
            return Vec::new();
        };
        vec![Change::Disk(Disk {
            observation: Some(Observation {
                presence: Presence::Unknown,
                time: now,
                note: "its removal failed; what is left of it on storage is not known yet".into(),
            }),
            ..disk.clone()
        })]
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::model::CommandState::*;
    use crate::testing::{Fate, World, command_id, create_vm, disk_id, remove_vm, vm_id};

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

    /// A deletion that was interrupted half-way stays half done if its next try is stopped.
    #[test]
    fn what_is_half_gone_is_not_called_undone_when_its_next_try_is_stopped() {
        let mut world = with_a_vm();
        world.host_mut(0).fates = vec![Fate::Finish, Fate::Fail];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!(world.state_of(2), NeedsAttention);
        let retry = |world: &mut World| {
            let (command_id, user) = (command_id(2), "op".to_owned());
            world.step(Input::Retry { command_id, user });
        };
        retry(&mut world);
        world.step(Input::Cancel {
            command_id: command_id(2),
            user: "op".into(),
        });
        world.settle();
        assert_eq!(world.state_of(2), NeedsAttention);
        retry(&mut world);
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert!(world.host_mut(0).images.is_empty());
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

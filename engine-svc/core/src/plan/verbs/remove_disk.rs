//! Removes a disk that is attached to no VM.

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::model::{EntityKey, RemoveDisk, RemoveImage};
use crate::plan::at::At;
use crate::plan::next::Next;
use crate::plan::only_part;
use crate::plan::tree::{Part, Plan};
use crate::plan::verb::{CommandVerb, Root};
use crate::plan::words::absent;
use crate::state::State;

impl Root for RemoveDisk {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        let disk_id = request.disk_id;
        let image = RemoveImage::of(state, disk_id, None);
        let image = image.ok_or_else(|| absent(state, &EntityKey::Disk(disk_id), "disk_id"))?;
        let mut locks = vec![
            (EntityKey::Disk(disk_id), Mode::Exclusive),
            (EntityKey::Domain(image.domain_id), Mode::Shared),
            (EntityKey::Host(image.host_id), Mode::Shared),
        ];
        let vm = state.vm_of(disk_id);
        // This lock only shows who works on the VM: whoever holds it may be removing the disk with the VM.
        locks.extend(vm.map(|vm| (EntityKey::Vm(vm.id), Mode::Shared)));
        Ok(Plan {
            children: vec![Part::leaf("image", image)],
            forbidden: vm.map(|vm| {
                let message = format!(
                    "the disk is attached to VM {} ({}); detach it first",
                    vm.id, vm.name
                );
                Fault::new(FaultCode::DiskAttached, message).about("disk_id")
            }),
            ..Plan::of(request.clone(), locks)
        })
    }
}

impl CommandVerb for RemoveDisk {
    /// The part itself takes the disk out of the inventory.
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        only_part::next(at, |_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::model::CommandState::*;
    use crate::testing::{
        Fate, World, command_id, create_disk, create_vm, disk_id, refusal, remove_disk, remove_vm, vm_id,
    };

    #[test]
    fn a_disk_of_its_own_goes_with_its_image() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        world.submit(2, "RemoveDisk", remove_disk(1));
        assert!(
            world.engine.state.disk(disk_id(1)).is_some(),
            "not before its image"
        );
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert_eq!(world.engine.state.disk(disk_id(1)), None);
        assert!(world.host_mut(0).images.is_empty());
    }

    #[test]
    fn one_that_cannot_be_removed_stays() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::ImageInUse)];
        world.submit(2, "RemoveDisk", remove_disk(1));
        world.settle();
        let root = world.root(2);
        assert_eq!((root.state, root.left_behind.len()), (Failed, 0));
        assert_eq!(
            root.fault.as_ref().map(|fault| fault.code),
            Some(FaultCode::ImageInUse)
        );
        assert!(world.engine.state.disk(disk_id(1)).is_some());
    }

    #[test]
    fn one_that_is_attached_is_refused_and_the_vm_is_named() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        let fault = refusal(world.submit(2, "RemoveDisk", remove_disk(1)));
        assert_eq!(fault.code, FaultCode::DiskAttached);
        assert!(fault.message.contains(&vm_id(1).to_string()), "{fault}");
    }

    #[test]
    fn while_a_command_holds_the_vm_that_command_is_named() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        world.submit(2, "RemoveVm", remove_vm(1));
        let fault = refusal(world.submit(3, "RemoveDisk", remove_disk(1)));
        assert_eq!(fault.code, FaultCode::EntityBusy);
        assert!(fault.message.contains(&command_id(2).to_string()), "{fault}");
        world.settle();
        let fault = refusal(world.submit(3, "RemoveDisk", remove_disk(1)));
        assert_eq!(fault.code, FaultCode::EntityNotFound);
    }
}

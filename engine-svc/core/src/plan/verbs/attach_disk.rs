//! Attaches a disk to a VM. Only the inventory changes, so the change that accepts the command does it.

use common::id::{CommandId, DiskId, VmId};
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{AttachDisk, Disk, EntityKey};
use crate::plan::MAX_DISKS;
use crate::plan::at::At;
use crate::plan::next::{End, Next};
use crate::plan::tree::Plan;
use crate::plan::verb::{CommandVerb, Root};
use crate::plan::words::absent;
use crate::state::State;

impl Root for AttachDisk {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        both(state, request.disk_id, request.vm_id)?;
        Ok(Plan {
            forbidden: attached(state, request).or_else(|| full(state, request)),
            ..Plan::of(request.clone(), locks(request.disk_id, request.vm_id))
        })
    }
}

fn attached(state: &State, request: &AttachDisk) -> Option<Fault> {
    let vm = state.vm_of(request.disk_id)?;
    let advice = if vm.id == request.vm_id {
        "already"
    } else {
        "and can be attached to one at a time; detach it there first"
    };
    let message = format!("the disk is attached to VM {} ({}) {advice}", vm.id, vm.name);
    Some(Fault::new(FaultCode::DiskAttached, message).about("disk_id"))
}

fn full(state: &State, request: &AttachDisk) -> Option<Fault> {
    let vm = state
        .vm(request.vm_id)
        .filter(|vm| vm.disk_ids.len() >= MAX_DISKS)?;
    let message = format!(
        "the VM has {} disks, and at most {MAX_DISKS} are allowed",
        vm.disk_ids.len()
    );
    Some(Fault::new(FaultCode::VmFull, message).about("vm_id"))
}

impl CommandVerb for AttachDisk {
    /// The disk first: it names the VM to look in, and the VM says whether the disk is attached.
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        let (Some(disk), Some(vm)) = (at.state.disk(self.disk_id), at.state.vm(self.vm_id)) else {
            return Next::Stay;
        };
        let disk = Disk {
            last_vm: Some(vm.id),
            ..disk.clone()
        };
        End::succeeded(vec![Change::Disk(disk), Change::Vm(vm.with(self.disk_id))])
    }
}

/// Checks that the disk and the VM exist.
pub(super) fn both(state: &State, disk_id: DiskId, vm_id: VmId) -> Result<(), Fault> {
    if state.disk(disk_id).is_none() {
        return Err(absent(state, &EntityKey::Disk(disk_id), "disk_id"));
    }
    if state.vm(vm_id).is_none() {
        return Err(absent(state, &EntityKey::Vm(vm_id), "vm_id"));
    }
    Ok(())
}

/// Both, each with an exclusive lock.
pub(super) fn locks(disk_id: DiskId, vm_id: VmId) -> Vec<(EntityKey, Mode)> {
    vec![
        (EntityKey::Vm(vm_id), Mode::Exclusive),
        (EntityKey::Disk(disk_id), Mode::Exclusive),
    ]
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::model::CommandState::*;
    use crate::model::{EntityKey, EventCode};
    use crate::step::Reply;
    use crate::testing::{
        World, attach_disk, code, create_disk, create_vm, detach_disk, disk_id, refusal, remove_vm,
        submission, vm_id,
    };

    /// VMs 1 and 2, and disk 1 without a VM.
    fn world() -> World {
        let mut world = World::with_domains(1);
        world.submit(0x11, "CreateVm", create_vm(1, [8], 0));
        world.submit(0x12, "CreateVm", create_vm(2, [], 0));
        world.submit(0x13, "CreateDisk", create_disk(1, 0));
        world.settle();
        world
    }

    #[test]
    fn it_is_done_by_the_change_that_accepts_it_and_no_task_is_needed() {
        let mut world = world();
        let asked = submission(1, "AttachDisk", attach_disk(1, 1));
        let transition = world.step(Input::Submit(Box::new(asked.clone())));
        assert!(transition.effects.is_empty());
        let Reply::Accepted {
            command: Some(command),
            ..
        } = transition.reply
        else {
            panic!("refused")
        };
        assert_eq!(command.state, Succeeded);
        let vm = world.engine.state.vm(vm_id(1)).unwrap();
        assert_eq!(vm.disk_ids, [disk_id(8), disk_id(1)]);
        let event = world.engine.events.last().unwrap();
        assert_eq!(event.code, EventCode::DiskAttached);
        assert_eq!(
            event.entities,
            [EntityKey::Disk(disk_id(1)), EntityKey::Vm(vm_id(1))]
        );
        assert!(world.engine.state.lock_owners().is_empty());
        let again = world.step(Input::Submit(Box::new(asked)));
        assert!(matches!(again.reply, Reply::Accepted { repeat: true, .. }));
        assert!(again.changes.is_empty());
    }

    #[test]
    fn a_disk_is_attached_to_one_vm_at_a_time() {
        let mut world = world();
        world.submit(1, "AttachDisk", attach_disk(1, 1));
        for vm in [1, 2] {
            let fault = refusal(world.submit(2, "AttachDisk", attach_disk(1, vm)));
            assert_eq!(fault.code, FaultCode::DiskAttached);
            assert!(fault.message.contains(&vm_id(1).to_string()), "{fault}");
        }
        world.submit(3, "DetachDisk", detach_disk(1, 1));
        world.crash();
        world.submit(4, "AttachDisk", attach_disk(1, 2));
        assert_eq!(world.state_of(4), Succeeded);
        let of = world.engine.state.vm_of(disk_id(1)).map(|vm| vm.id);
        assert_eq!(of, Some(vm_id(2)));
    }

    #[test]
    fn a_vm_takes_no_more_disks_than_it_could_be_made_with() {
        let mut world = world();
        let most = crate::plan::MAX_DISKS as u128;
        world.submit(1, "CreateVm", create_vm(3, 0x10..0x10 + most, 0));
        world.settle();
        let full = code(world.submit(2, "AttachDisk", attach_disk(1, 3)));
        assert_eq!(full, Some(FaultCode::VmFull));
        world.submit(3, "DetachDisk", detach_disk(0x10, 3));
        world.submit(4, "AttachDisk", attach_disk(1, 3));
        assert_eq!(world.state_of(4), Succeeded);
    }

    #[test]
    fn only_what_is_attached_to_the_vm_is_detached_and_it_stays() {
        let mut world = world();
        let none = code(world.submit(1, "DetachDisk", detach_disk(1, 1)));
        assert_eq!(none, Some(FaultCode::DiskNotAttached));
        let other = refusal(world.submit(1, "DetachDisk", detach_disk(8, 2)));
        assert_eq!(other.code, FaultCode::DiskNotAttached);
        assert!(other.message.contains(&vm_id(1).to_string()), "{other}");
        world.submit(1, "DetachDisk", detach_disk(8, 1));
        assert_eq!(world.state_of(1), Succeeded);
        assert_eq!(world.engine.state.vm(vm_id(1)).unwrap().disk_ids, []);
        assert!(world.engine.state.disk(disk_id(8)).is_some());
    }

    #[test]
    fn what_is_unknown_is_named_by_its_field() {
        let mut world = world();
        for (request, field) in [
            (attach_disk(9, 1), "disk_id"),
            (attach_disk(1, 9), "vm_id"),
            (detach_disk(9, 1), "disk_id"),
            (detach_disk(1, 9), "vm_id"),
        ] {
            let fault = refusal(world.submit(1, "Any", request));
            assert_eq!(
                (fault.code, fault.subject.as_str()),
                (FaultCode::EntityNotFound, field)
            );
        }
    }

    #[test]
    fn while_the_vm_is_being_removed_its_remover_is_named() {
        let mut world = world();
        world.submit(1, "RemoveVm", remove_vm(1));
        for (rpc, request) in [
            ("AttachDisk", attach_disk(1, 1)),
            ("AttachDisk", attach_disk(8, 2)),
            ("DetachDisk", detach_disk(8, 1)),
        ] {
            let busy = code(world.submit(2, rpc, request));
            assert_eq!(busy, Some(FaultCode::EntityBusy));
        }
    }

    #[test]
    fn a_vm_is_removed_with_what_was_attached_and_without_what_was_detached() {
        let mut world = world();
        world.submit(1, "AttachDisk", attach_disk(1, 1));
        world.submit(2, "DetachDisk", detach_disk(8, 1));
        world.submit(3, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!(world.state_of(3), Succeeded);
        let left: Vec<_> = world.engine.state.disks().map(|disk| disk.spec.disk_id).collect();
        assert_eq!(left, [disk_id(8)]);
    }
}

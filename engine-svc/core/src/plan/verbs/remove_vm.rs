//! Removes a VM with its disks. The change that ends the command removes the VM, once every disk is gone; if a disk
//! cannot be removed, both that disk and the VM stay.

use std::collections::BTreeSet;

use common::id::{CommandId, VmId};
use common::lock::Mode;
use common::{Fault, Timestamp};

use crate::change::Change;
use crate::model::{EntityKey, RemoveAllVmImages, RemoveImage, RemoveVm, RemoveVmRequest};
use crate::plan::at::At;
use crate::plan::next::Next;
use crate::plan::only_part;
use crate::plan::tree::{Part, Plan};
use crate::plan::verb::{CommandVerb, Root};
use crate::plan::words::absent;
use crate::state::State;

impl Root for RemoveVm {
    fn plan(state: &State, _id: CommandId, request: &RemoveVmRequest) -> Result<Plan, Fault> {
        let vm_id = request.vm_id;
        let Some(vm) = state.vm(vm_id) else {
            return Err(absent(state, &EntityKey::Vm(vm_id), "vm_id"));
        };
        // The removal of a disk cannot be planned if the disk's host is not known.
        let images: Vec<RemoveImage> = (vm.disk_ids.iter())
            .filter_map(|id| RemoveImage::of(state, *id, Some(vm_id)))
            .collect();
        let locks = locks(vm_id, &vm.name, &images);
        let parts = images.into_iter().enumerate();
        let all = Part {
            place: "images".to_owned(),
            children: parts
                .map(|(at, image)| Part::leaf(format!("disk/{at}"), image))
                .collect(),
            task: None,
            parameters: RemoveAllVmImages {
                vm_id,
                disk_ids: vm.disk_ids.clone(),
            }
            .into(),
        };
        let parameters = Self {
            vm_id,
            name: vm.name.clone(),
        };
        Ok(Plan {
            children: vec![all],
            ..Plan::of(parameters, locks)
        })
    }
}

fn locks(vm_id: VmId, name: &str, images: &[RemoveImage]) -> Vec<(EntityKey, Mode)> {
    let mut shared = BTreeSet::new();
    let mut locks = vec![
        (EntityKey::Vm(vm_id), Mode::Exclusive),
        (EntityKey::VmName(name.to_owned()), Mode::Exclusive),
    ];
    for image in images {
        locks.push((EntityKey::Disk(image.disk_id), Mode::Exclusive));
        shared.extend([EntityKey::Domain(image.domain_id), EntityKey::Host(image.host_id)]);
    }
    locks.extend(shared.into_iter().map(|key| (key, Mode::Shared)));
    locks
}

impl CommandVerb for RemoveVm {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        let gone = vec![Change::VmRemoved(self.vm_id)];
        match only_part::next(at, |_| gone) {
            Next::End(mut end) if !end.left_behind.is_empty() => {
                end.left_behind.push(EntityKey::Vm(self.vm_id));
                Next::End(end)
            }
            next => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::model::CommandState::*;
    use crate::model::{EntityKey, EventCode};
    use crate::testing::{Fate, World, command_id, create_vm, disk_id, remove_vm, vm_id};

    fn with_vm(disks: u128) -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, 1..=disks, 0));
        world.settle();
        world
    }

    #[test]
    fn the_vm_goes_when_every_disk_is_gone() {
        let mut world = with_vm(4);
        world.submit(2, "RemoveVm", remove_vm(1));
        assert!(world.engine.state.vm(vm_id(1)).is_some());
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert!(world.engine.state.vm(vm_id(1)).is_none());
        assert_eq!(world.engine.state.disks().count(), 0);
        assert!(world.hosts.values().all(|host| host.images.is_empty()));
    }

    #[test]
    fn a_success_is_told_once_and_not_before_the_work_is_done() {
        let mut world = with_vm(2);
        world.submit(2, "RemoveVm", remove_vm(1));
        let told = |world: &World| {
            world
                .engine
                .events
                .iter()
                .filter(|e| e.code == EventCode::VmRemoved)
                .count()
        };
        while told(&world) == 0 {
            assert!(world.engine.state.disks().count() + world.engine.state.vms().count() > 0);
            world.flow();
        }
        assert!(world.hosts.values().all(|host| host.images.is_empty()));
        world.settle();
        assert_eq!(told(&world), 1);
    }

    #[test]
    fn a_disk_that_is_not_on_storage_counts_as_removed() {
        let mut world = with_vm(2);
        world.host_mut(0).images.remove(&disk_id(1));
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
    }

    #[test]
    fn what_stays_is_named_and_what_went_is_named_and_the_vm_keeps_what_stays() {
        let mut world = with_vm(3);
        world.host_mut(0).fates = vec![Fate::Finish, Fate::Recover(FaultCode::ImageShared), Fate::Finish];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        let root = world.root(2);
        assert_eq!(root.state, Failed);
        let vm = world.engine.state.vm(vm_id(1)).unwrap();
        let [left] = vm.disk_ids[..] else {
            panic!("one disk stays")
        };
        assert_eq!(root.left_behind, [EntityKey::Disk(left), EntityKey::Vm(vm_id(1))]);
        let images = world.command(root.children[0]);
        let went = images
            .outcomes
            .iter()
            .filter(|outcome| outcome.state == Succeeded);
        assert_eq!((images.outcomes.len(), went.count()), (3, 2));
    }

    #[test]
    fn where_no_disk_could_be_touched_nothing_is_left_behind() {
        let mut world = with_vm(2);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::ImageInUse); 2];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!((world.state_of(2), world.root(2).left_behind.len()), (Failed, 0));
        assert_eq!(
            world.engine.state.vm(vm_id(1)).map(|vm| vm.disk_ids.len()),
            Some(2)
        );
    }

    #[test]
    fn stopped_before_any_task_began_nothing_has_changed() {
        let mut world = with_vm(2);
        world.submit(2, "RemoveVm", remove_vm(1));
        world.step(Input::Cancel {
            command_id: command_id(2),
            user: "ann".into(),
        });
        world.settle();
        assert_eq!(world.state_of(2), Cancelled);
        assert_eq!(
            world.hosts.values().map(|host| host.images.len()).sum::<usize>(),
            2
        );
    }

    #[test]
    fn past_the_point_of_no_return_it_runs_on_and_keeps_the_wish() {
        let mut world = with_vm(1);
        world.submit(2, "RemoveVm", remove_vm(1));
        for _ in 0..3 {
            world.flow();
        }
        world.step(Input::Cancel {
            command_id: command_id(2),
            user: "ann".into(),
        });
        world.settle();
        assert_eq!(
            (world.state_of(2), world.root(2).cancel_requested),
            (Succeeded, true)
        );
    }
}

//! Copies a disk to a new disk of the same size that belongs to no VM. The command shares the lock of the source with
//! other copies, so that nobody removes the source; the new disk enters the inventory once it is whole.

use std::collections::BTreeSet;

use common::id::{CommandId, DiskId};
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp, VolumeAddress};

use crate::model::{CopyDisk, CopyDiskRequest, CopyImage, Disk, EntityKey, NewDisk};
use crate::plan::at::At;
use crate::plan::next::Next;
use crate::plan::tree::{Part, Plan};
use crate::plan::verb::{CommandVerb, Root};
use crate::plan::words::absent;
use crate::plan::{new_disk, only_part};
use crate::state::State;

/// The place of the part that makes the disk.
const PLACE: &str = "disk";

impl Root for CopyDisk {
    fn plan(state: &State, id: CommandId, request: &CopyDiskRequest) -> Result<Plan, Fault> {
        let source_disk_id = request.source_disk_id;
        let Some(source) = state.disk(source_disk_id) else {
            return Err(absent(state, &EntityKey::Disk(source_disk_id), "source_disk_id"));
        };
        let disk = new_disk::spec(id, PLACE, &wanted(request, source));
        let host_id = new_disk::host(state, &disk, "")?;
        if state.domain(source.spec.domain_id).map(|domain| domain.host_id) != Some(host_id) {
            let message = format!(
                "the domain is served by host {host_id}, but the domain of the source by another, and a copy is made by one host; name a domain of the source's host"
            );
            return Err(Fault::new(FaultCode::DomainsApart, message).about("domain_id"));
        }
        let image = CopyImage {
            source: VolumeAddress {
                domain_id: source.spec.domain_id,
                image_id: source_disk_id.image(),
                volume_id: source.volume_id,
            },
            disk: disk.clone(),
            volume_id: id.volume(PLACE),
            host_id,
            verify: request.verify,
        };
        let locks = locks(state, source_disk_id, &image);
        let parameters = Self {
            source_disk_id,
            disk,
            verify: request.verify,
        };
        Ok(Plan {
            children: vec![Part::leaf(PLACE, image)],
            ..Plan::of(parameters, locks)
        })
    }
}

/// The new disk, as large as its source.
fn wanted(request: &CopyDiskRequest, source: &Disk) -> NewDisk {
    NewDisk {
        disk_id: request.disk_id,
        domain_id: request.domain_id,
        capacity_bytes: source.spec.capacity_bytes,
        format: request.format,
        allocation: request.allocation,
        description: request.description.clone(),
    }
}

fn locks(state: &State, source_id: DiskId, image: &CopyImage) -> Vec<(EntityKey, Mode)> {
    let mut shared = BTreeSet::from([
        EntityKey::Disk(source_id),
        EntityKey::Domain(image.source.domain_id),
        EntityKey::Domain(image.disk.domain_id),
        EntityKey::Host(image.host_id),
    ]);
    shared.extend(state.vm_of(source_id).map(|vm| EntityKey::Vm(vm.id)));
    let new = (EntityKey::Disk(image.disk.disk_id), Mode::Exclusive);
    let shared = shared.into_iter().map(|key| (key, Mode::Shared));
    [new].into_iter().chain(shared).collect()
}

impl CommandVerb for CopyDisk {
    fn next(&self, at: At<'_>, now: Timestamp) -> Next {
        only_part::makes_a_disk(at, now)
    }

    fn undoing(&self, at: At<'_>) -> bool {
        only_part::undoing(at)
    }
}

#[cfg(test)]
mod tests {
    use common::{FaultCode, Operation};

    use crate::input::Input;
    use crate::model::CommandState::*;
    use crate::model::{EventCode, Presence};
    use crate::testing::{
        Fate, World, attach_disk, cancel, command_id, copy_disk, create_disk, create_vm, detach_disk,
        disk_id, domain_id, refusal, remove_disk, remove_vm, vm_id,
    };

    /// Disk 1 without a VM and disk 8 of VM 1, in domain 0; domain 1 is on another host, domain 2 on the first one.
    fn world() -> World {
        let mut world = World::with_domains(2);
        world.submit(0x11, "CreateStorageDomain", crate::testing::create_domain(2, 0));
        world.submit(0x12, "CreateDisk", create_disk(1, 0));
        world.submit(0x13, "CreateVm", create_vm(1, [8], 0));
        world.settle();
        world
    }

    #[test]
    fn a_copy_is_as_large_as_its_source_and_is_nobodys() {
        for (source, domain) in [(1, 0), (8, 2)] {
            let mut world = world();
            world.submit(1, "CopyDisk", copy_disk(source, 2, domain));
            assert_eq!(
                world.engine.state.disk(disk_id(2)),
                None,
                "not before it is whole"
            );
            let task = world
                .engine
                .state
                .tasks()
                .find(|task| task.root == Some(command_id(1)));
            let Some(Operation::CopyVolume(op)) = task.and_then(|task| task.operation.clone()) else {
                panic!("{task:#?}");
            };
            assert_eq!(op.source.image_id, disk_id(source).image());
            world.settle();
            assert_eq!(world.state_of(1), Succeeded);
            let (from, to) = (disk_id(source), disk_id(2));
            let (from, to) = (world.engine.state.disk(from), world.engine.state.disk(to));
            let (from, to) = (from.unwrap(), to.unwrap());
            assert_eq!(from.spec.capacity_bytes, to.spec.capacity_bytes);
            assert_eq!((to.spec.domain_id, to.last_vm), (domain_id(domain), None));
            let presence = to.observation.as_ref().map(|seen| seen.presence);
            assert_eq!(presence, Some(Presence::Whole));
            assert!(
                world
                    .engine
                    .events
                    .iter()
                    .any(|e| e.code == EventCode::DiskCopied)
            );
        }
    }

    #[test]
    fn a_source_is_copied_by_many_and_removed_by_nobody_meanwhile() {
        let mut world = world();
        world.submit(1, "CopyDisk", copy_disk(8, 2, 0));
        world.submit(2, "CopyDisk", copy_disk(8, 3, 2));
        for (rpc, request) in [
            ("RemoveVm", remove_vm(1)),
            ("RemoveDisk", remove_disk(8)),
            ("DetachDisk", detach_disk(8, 1)),
            ("AttachDisk", attach_disk(1, 1)),
            ("RemoveDisk", remove_disk(2)),
        ] {
            let fault = refusal(world.submit(3, rpc, request));
            assert_eq!(fault.code, FaultCode::EntityBusy, "{rpc}: {fault}");
            // A refusal says that the disk is still being made, and by whom.
            if fault.subject == "disk_id" {
                let expected = format!(
                    "disk {} is being made by command {} of ann since ",
                    disk_id(2),
                    command_id(1)
                );
                assert!(fault.message.starts_with(&expected), "{fault}");
            }
        }
        world.settle();
        assert_eq!((world.state_of(1), world.state_of(2)), (Succeeded, Succeeded));
        world.submit(4, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!(world.state_of(4), Succeeded);
        assert!(world.engine.state.vm(vm_id(1)).is_none());
    }

    #[test]
    fn what_the_state_forbids_names_the_field() {
        let mut world = world();
        for (request, code, field) in [
            (copy_disk(9, 2, 0), FaultCode::EntityNotFound, "source_disk_id"),
            (copy_disk(1, 1, 0), FaultCode::EntityExists, "disk_id"),
            (copy_disk(1, 8, 0), FaultCode::EntityExists, "disk_id"),
            (copy_disk(1, 2, 9), FaultCode::EntityNotFound, "domain_id"),
            (copy_disk(1, 2, 1), FaultCode::DomainsApart, "domain_id"),
        ] {
            let fault = refusal(world.submit(1, "CopyDisk", request));
            assert_eq!((fault.code, fault.subject.as_str()), (code, field));
        }
    }

    #[test]
    fn what_a_restart_of_the_host_interrupted_is_sent_again() {
        let mut world = world();
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::Interrupted)];
        world.submit(1, "CopyDisk", copy_disk(1, 2, 0));
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        let again = world
            .engine
            .events
            .iter()
            .filter(|e| e.code == EventCode::TaskSentAgain);
        assert_eq!(again.count(), 1);
    }

    #[test]
    fn a_source_that_is_gone_fails_the_copy_and_nothing_is_left_of_it() {
        for moments in 0..4 {
            let mut world = world();
            world.submit(1, "CopyDisk", copy_disk(1, 2, 0));
            for _ in 0..moments {
                world.flow();
            }
            world.host_mut(0).vanish(disk_id(1));
            world.settle();
            let root = world.root(1);
            assert_eq!((root.state, root.left_behind.len()), (Failed, 0), "{moments}");
            assert!(!world.host_mut(0).images.contains_key(&disk_id(2)));
            assert!(
                world.engine.state.disk(disk_id(1)).is_some(),
                "no command decides by a look"
            );
        }
    }

    #[test]
    fn a_host_that_does_not_know_the_verb_fails_it_cleanly() {
        let mut world = world();
        world.submit(1, "CopyDisk", copy_disk(1, 2, 0));
        let task = world
            .engine
            .state
            .tasks()
            .find(|task| task.root == Some(command_id(1)));
        let task_id = task.unwrap().id;
        world.step(Input::StartRefused {
            task_id,
            fault: common::Fault::new(FaultCode::OperationUnsupported, "not here"),
        });
        let root = world.root(1);
        assert_eq!((root.state, root.left_behind.len()), (Failed, 0));
        let code = root.fault.as_ref().map(|fault| fault.code);
        assert_eq!(code, Some(FaultCode::OperationUnsupported));
        assert!(world.engine.state.lock_owners().is_empty());
    }

    #[test]
    fn stopped_at_any_moment_before_it_is_whole_it_leaves_nothing_and_the_source_stays() {
        for moments in 0..6 {
            for (crash, twice) in [(false, false), (true, false), (false, true)] {
                let mut world = world();
                world.submit(1, "CopyDisk", copy_disk(1, 2, 2));
                for _ in 0..moments {
                    world.flow();
                }
                if world.state_of(1).is_terminal() {
                    continue;
                }
                world.step(cancel(1));
                if twice {
                    world.step(cancel(1));
                }
                if crash {
                    world.crash();
                }
                world.settle();
                assert_eq!(world.state_of(1), Cancelled, "after {moments} moments");
                assert!(!world.host_mut(0).images.contains_key(&disk_id(2)));
                assert!(world.host_mut(0).images.contains_key(&disk_id(1)));
                assert_eq!(world.engine.state.disk(disk_id(2)), None);
            }
        }
    }

    #[test]
    fn past_the_point_of_no_return_it_runs_on_and_keeps_the_wish() {
        let mut world = world();
        world.submit(1, "CopyDisk", copy_disk(1, 2, 0));
        for _ in 0..3 {
            world.flow();
        }
        world.host_mut(0).commit_all();
        world.step(cancel(1));
        world.crash();
        world.settle();
        assert_eq!(
            (world.state_of(1), world.root(1).cancel_requested),
            (Succeeded, true)
        );
        assert!(world.engine.state.disk(disk_id(2)).is_some());
    }
}

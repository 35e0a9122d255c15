//! Makes a disk larger, attached or not. The host undoes the extension until it is about to grow the volume; after
//! that the extension only goes forward, because a disk is never made smaller. The inventory has the new size by the
//! change that ends the command.

use common::id::CommandId;
use common::lock::Mode;
use common::words::size;
use common::{ExtendVolume, Fault, Operation, Timestamp, VolumeAddress};

use crate::change::Change;
use crate::model::{
    Disk, DiskSpec, EntityKey, ExtendDisk, ExtendDiskRequest, Observation, PlannedTask, Presence,
};
use crate::plan::tree::Plan;
use crate::plan::verb::{Leaf, Root, Undo};
use crate::plan::words::absent;
use crate::state::State;

impl Root for ExtendDisk {
    fn plan(state: &State, _id: CommandId, request: &ExtendDiskRequest) -> Result<Plan, Fault> {
        let parameters = of(state, request);
        let key = EntityKey::Disk(request.disk_id);
        let parameters = parameters.ok_or_else(|| absent(state, &key, "disk_id"))?;
        let mut locks = vec![
            (key, Mode::Exclusive),
            (EntityKey::Domain(parameters.volume.domain_id), Mode::Shared),
            (EntityKey::Host(parameters.host_id), Mode::Shared),
        ];
        // A command that changes the VM may be detaching the disk, or removing it with the VM.
        let vm = state.vm_of(request.disk_id);
        locks.extend(vm.map(|vm| (EntityKey::Vm(vm.id), Mode::Shared)));
        Ok(Plan {
            forbidden: not_larger(&parameters),
            ..Plan::leaf(parameters, locks)
        })
    }
}

/// The parameters; none if there is no such disk, or its host is not known.
fn of(state: &State, request: &ExtendDiskRequest) -> Option<ExtendDisk> {
    let disk = state.disk(request.disk_id)?;
    let domain = state.domain(disk.spec.domain_id)?;
    let host = state.host(domain.host_id)?;
    Some(ExtendDisk {
        disk_id: request.disk_id,
        capacity_bytes: request.capacity_bytes,
        old_capacity_bytes: disk.spec.capacity_bytes,
        volume: VolumeAddress {
            domain_id: domain.id,
            image_id: request.disk_id.image(),
            volume_id: disk.volume_id,
        },
        host_id: host.id,
        disk_name: disk.spec.name(),
        host_name: host.name.clone(),
    })
}

fn not_larger(parameters: &ExtendDisk) -> Option<Fault> {
    let (wanted, present) = (parameters.capacity_bytes, parameters.old_capacity_bytes);
    let what = format!(
        "is {wanted}; the disk has {present} bytes ({}) already, and can only grow",
        size(present)
    );
    (wanted <= present).then(|| Fault::invalid("capacity_bytes", what))
}

impl Leaf for ExtendDisk {
    /// Do: a guest sees the new size, and the metadata says so.
    fn make(&self) -> PlannedTask {
        PlannedTask {
            host_id: self.host_id,
            operation: Operation::ExtendVolume(ExtendVolume {
                volume: self.volume,
                capacity_bytes: self.capacity_bytes,
            }),
        }
    }

    /// Another task carries an interrupted extension on: the verb completes what the last task began.
    fn unmake(&self) -> Undo {
        Undo::ByHost
    }

    fn done(&self, state: &State) -> Vec<Change> {
        let larger = |disk: &Disk| Disk {
            spec: DiskSpec {
                capacity_bytes: self.capacity_bytes,
                ..disk.spec.clone()
            },
            ..disk.clone()
        };
        let disk = state.disk(self.disk_id).map(larger);
        disk.map(Change::Disk).into_iter().collect()
    }

    /// Nobody knows any more whether the disk is whole: storage must be examined.
    fn not_done(&self, state: &State, now: Timestamp) -> Vec<Change> {
        let unknown = |disk: &Disk| Disk {
            observation: Some(Observation {
                presence: Presence::Unknown,
                time: now,
                note: "its extension did not end well; storage has not shown yet whether it is whole".into(),
            }),
            ..disk.clone()
        };
        let disk = state.disk(self.disk_id).map(unknown);
        disk.map(Change::Disk).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::{Evidence, Input, Remembered};
    use crate::jobs::Job;
    use crate::model::CommandState::*;
    use crate::model::{EntityKey, EventCode, Purpose};
    use crate::step::Reply;
    use crate::testing::{
        Fate, Size, World, attach_disk, command_id, copy_disk, create_disk, create_vm, detach_disk, disk_id,
        extend_disk, host_id, remove_disk, remove_vm, submission,
    };

    const OLD: u64 = 4096;
    const NEW: u64 = 12_288;

    /// Disk 1 without a VM, and disk 8 of VM 1.
    fn world() -> World {
        let mut world = World::with_domains(1);
        world.submit(0x11, "CreateDisk", create_disk(1, 0));
        world.submit(0x12, "CreateVm", create_vm(1, [8], 0));
        world.settle();
        world
    }

    /// The recorded size of the disk, and its size on the host.
    fn sizes(world: &mut World, disk: u128) -> (u64, Size) {
        let recorded = world
            .engine
            .state
            .disk(disk_id(disk))
            .unwrap()
            .spec
            .capacity_bytes;
        (recorded, world.host_mut(0).size(disk_id(disk)).unwrap())
    }

    fn refusal(reply: Reply) -> common::Fault {
        match reply {
            Reply::Refused(fault) => fault,
            other => panic!("{other:#?}"),
        }
    }

    fn cancel(world: &mut World) {
        world.step(Input::Cancel {
            command_id: command_id(1),
            user: "ann".into(),
        });
    }

    fn retry(world: &mut World) {
        world.step(Input::Retry {
            command_id: command_id(1),
            user: "op".into(),
        });
    }

    #[test]
    fn a_disk_is_larger_once_its_host_has_shown_it_attached_or_not() {
        for disk in [1, 8] {
            let mut world = world();
            world.submit(1, "ExtendDisk", extend_disk(disk, NEW));
            let root = world.root(1);
            assert_eq!(
                (root.state, root.children.len(), root.tasks.len()),
                (Active, 0, 1)
            );
            while world.state_of(1) == Active {
                assert_eq!(sizes(&mut world, disk).0, OLD, "not before");
                assert!(world.flow());
            }
            assert_eq!(world.state_of(1), Succeeded);
            assert_eq!(sizes(&mut world, disk), (NEW, Size::of(NEW)));
            world.settle();
            let told = |code| world.engine.events.iter().filter(|e| e.code == code).count();
            assert_eq!(told(EventCode::DiskExtended), 1);
            assert!(world.engine.state.lock_owners().is_empty());
        }
    }

    #[test]
    fn its_job_says_by_how_much_and_has_one_task() {
        let mut world = world();
        world.submit(1, "ExtendDisk", extend_disk(1, 2 << 30));
        let root = world.root(1).clone();
        let tasks: Vec<_> = world.engine.state.tasks().cloned().collect();
        let job = Job::of(&[root], &tasks, |_| Some(50.0)).unwrap();
        let words = format!("Extending disk {} from 4 KiB to 2 GiB on host-0", disk_id(1));
        assert_eq!(job.head.description, words);
        assert_eq!(
            (job.head.progress.done_bytes, job.head.progress.total_bytes),
            (1 << 30, 2 << 30)
        );
        let kinds: Vec<_> = job.steps.iter().map(|step| step.kind).collect();
        use crate::model::StepKind;
        assert_eq!(
            kinds,
            [
                StepKind::Validating,
                StepKind::Executing,
                StepKind::Task,
                StepKind::Finalizing
            ]
        );
    }

    #[test]
    fn a_plan_shows_the_task_and_nothing_is_done() {
        let mut world = world();
        let mut asked = submission(1, "ExtendDisk", extend_disk(1, NEW));
        asked.validate_only = true;
        let transition = world.step(Input::Submit(Box::new(asked)));
        assert!(transition.changes.is_empty() && transition.effects.is_empty());
        let Reply::Planned {
            command,
            children,
            tasks,
        } = transition.reply
        else {
            panic!("a plan")
        };
        assert_eq!((children.len(), tasks.len()), (0, 1));
        assert_eq!(tasks[0].command, Some(command.id));
    }

    #[test]
    fn one_that_is_as_large_or_larger_is_refused_and_its_capacity_named() {
        let mut world = world();
        for bytes in [1, OLD] {
            let fault = refusal(world.submit(1, "ExtendDisk", extend_disk(1, bytes)));
            assert_eq!(
                (fault.code, fault.subject.as_str()),
                (FaultCode::InvalidArgument, "capacity_bytes")
            );
            assert!(fault.message.contains("4096 bytes (4 KiB)"), "{fault}");
        }
        let fault = refusal(world.submit(1, "ExtendDisk", extend_disk(9, NEW)));
        assert_eq!(
            (fault.code, fault.subject.as_str()),
            (FaultCode::EntityNotFound, "disk_id")
        );
    }

    #[test]
    fn nobody_removes_copies_attaches_or_extends_it_meanwhile() {
        let mut world = world();
        world.submit(1, "ExtendDisk", extend_disk(8, NEW));
        for (rpc, request) in [
            ("RemoveVm", remove_vm(1)),
            ("RemoveDisk", remove_disk(8)),
            ("DetachDisk", detach_disk(8, 1)),
            ("AttachDisk", attach_disk(1, 1)),
            ("CopyDisk", copy_disk(8, 2, 0)),
            ("ExtendDisk", extend_disk(8, 2 * NEW)),
            ("ExtendDisk", extend_disk(8, OLD)),
        ] {
            let fault = refusal(world.submit(2, rpc, request));
            assert_eq!(fault.code, FaultCode::EntityBusy, "{rpc}: {fault}");
            assert!(
                fault.message.contains(&command_id(1).to_string()),
                "{rpc}: {fault}"
            );
        }
    }

    #[test]
    fn one_that_somebody_makes_copies_or_removes_is_refused_and_that_command_named() {
        let mut world = world();
        world.submit(1, "CreateDisk", create_disk(3, 0));
        world.submit(2, "CopyDisk", copy_disk(1, 2, 0));
        world.submit(3, "RemoveVm", remove_vm(1));
        for (disk, command) in [(3, 1), (1, 2), (2, 2), (8, 3)] {
            let fault = refusal(world.submit(9, "ExtendDisk", extend_disk(disk, NEW)));
            assert_eq!(fault.code, FaultCode::EntityBusy, "{fault}");
            let named = fault.message.contains(&command_id(command).to_string());
            assert!(named, "disk {disk}: {fault}");
        }
    }

    #[test]
    fn without_room_it_keeps_its_size_and_is_free_again() {
        let mut world = world();
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::NoSpace)];
        world.submit(1, "ExtendDisk", extend_disk(1, NEW));
        world.settle();
        let root = world.root(1);
        assert_eq!((root.state, root.left_behind.len()), (Failed, 0));
        assert_eq!(
            root.fault.as_ref().map(|fault| fault.code),
            Some(FaultCode::NoSpace)
        );
        assert_eq!(sizes(&mut world, 1), (OLD, Size::of(OLD)));
        assert!(world.engine.state.lock_owners().is_empty());
        world.submit(2, "ExtendDisk", extend_disk(1, NEW));
        world.settle();
        assert_eq!(sizes(&mut world, 1), (NEW, Size::of(NEW)));
    }

    #[test]
    fn stopped_or_cut_off_at_any_moment_it_has_the_old_size_or_the_new_one_and_the_end_says_which() {
        let mut ends = std::collections::BTreeSet::new();
        for moments in 0..8 {
            for (stop, crash, restart) in [
                (true, false, false),
                (true, true, false),
                (true, false, true),
                (true, true, true),
                (false, true, true),
            ] {
                let mut world = world();
                world.submit(1, "ExtendDisk", extend_disk(1, NEW));
                for _ in 0..moments {
                    world.flow();
                }
                if stop && !world.state_of(1).is_terminal() {
                    cancel(&mut world);
                }
                if crash {
                    world.crash();
                }
                if restart {
                    world.restart(host_id(0));
                }
                world.settle();
                let bytes = match world.state_of(1) {
                    Succeeded => NEW,
                    Cancelled => OLD,
                    other => panic!("{other:?} after {moments} moments"),
                };
                ends.insert(world.state_of(1));
                assert_eq!(
                    sizes(&mut world, 1),
                    (bytes, Size::of(bytes)),
                    "after {moments} moments"
                );
                assert!(stop || bytes == NEW, "nobody stopped it");
            }
        }
        assert_eq!(ends.len(), 2);
    }

    #[test]
    fn one_that_is_neither_rests_and_is_carried_on_with_when_it_is_tried_again() {
        let mut world = world();
        world.host_mut(0).fates = vec![Fate::Fail];
        world.submit(1, "ExtendDisk", extend_disk(1, NEW));
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        let half = Size {
            shows: NEW,
            says: OLD,
        };
        assert_eq!(sizes(&mut world, 1), (OLD, half));
        // The disk stays half done if its next try is stopped.
        retry(&mut world);
        cancel(&mut world);
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        retry(&mut world);
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        assert_eq!(sizes(&mut world, 1), (NEW, Size::of(NEW)));
    }

    #[test]
    fn one_that_was_removed_by_hand_half_way_fails_where_it_is_tried_again() {
        let mut world = world();
        world.host_mut(0).fates = vec![Fate::Fail];
        world.submit(1, "ExtendDisk", extend_disk(1, NEW));
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        world.host_mut(0).vanish(disk_id(1));
        retry(&mut world);
        world.settle();
        let root = world.root(1);
        let code = root.fault.as_ref().map(|fault| fault.code);
        assert_eq!((root.state, code), (Failed, Some(FaultCode::ImageNotFound)));
        assert!(world.engine.state.lock_owners().is_empty());
        world.submit(2, "RemoveDisk", remove_disk(1));
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
    }

    #[test]
    fn given_up_it_names_the_disk_and_the_next_extension_sets_it_right() {
        let mut world = world();
        world.host_mut(0).fates = vec![Fate::Fail];
        world.submit(1, "ExtendDisk", extend_disk(1, NEW));
        world.settle();
        world.step(Input::Abandon {
            command_id: command_id(1),
            user: "op".into(),
            reason: "enough".into(),
        });
        let root = world.root(1);
        assert_eq!(
            (root.state, &root.left_behind[..]),
            (Failed, &[EntityKey::Disk(disk_id(1))][..])
        );
        world.settle();
        world.submit(2, "ExtendDisk", extend_disk(1, NEW));
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
        assert_eq!(sizes(&mut world, 1), (NEW, Size::of(NEW)));
    }

    #[test]
    fn a_host_that_lost_its_memory_is_asked_what_storage_shows() {
        for (evidence, state) in [
            (Evidence::Done, Succeeded),
            (Evidence::NotBegun, Active),
            (Evidence::Begun("two sizes".into()), NeedsAttention),
        ] {
            let mut world = world();
            world.submit(1, "ExtendDisk", extend_disk(1, NEW));
            world.perform(0, false);
            world.wipe(host_id(0));
            world.connect(host_id(0));
            let task_id = world.root(1).tasks[0];
            if evidence == Evidence::Done {
                world.host_mut(0).grow(disk_id(1), NEW);
            }
            let (store_id, start) = (world.host_mut(0).store, world.host_mut(0).present_start());
            world.step(Input::Probed {
                task_id,
                store_id,
                start,
                evidence,
                is_busy: false,
                remembered: Remembered::Unknown,
            });
            assert_eq!(world.state_of(1), state);
            assert!(world.engine.state.tasks().all(|task| task.purpose == Purpose::Do));
            retry(&mut world);
            world.settle();
            assert_eq!(world.state_of(1), Succeeded);
            assert_eq!(sizes(&mut world, 1), (NEW, Size::of(NEW)));
        }
    }

    #[test]
    fn one_that_waited_is_judged_when_it_starts() {
        let wait = std::time::Duration::from_micros(900);
        let mut world = world();
        world.submit(1, "ExtendDisk", extend_disk(1, NEW));
        world.submit_waiting(2, "ExtendDisk", extend_disk(1, 2 * NEW), wait);
        world.submit_waiting(3, "ExtendDisk", extend_disk(1, NEW), wait);
        assert_eq!((world.state_of(2), world.root(2).tasks.len()), (Pending, 0));
        world.settle();
        assert_eq!((world.state_of(2), world.state_of(3)), (Succeeded, Failed));
        let fault = world.root(3).fault.clone().unwrap();
        assert_eq!(
            (fault.code, fault.subject.as_str()),
            (FaultCode::InvalidArgument, "capacity_bytes")
        );
        assert_eq!(sizes(&mut world, 1), (2 * NEW, Size::of(2 * NEW)));
        let words = world
            .engine
            .events
            .iter()
            .find(|e| e.command == Some(command_id(2)));
        assert!(
            words.unwrap().message.contains("from 12 KiB to 24 KiB"),
            "as it was when it began"
        );
    }
}

//! Creates a disk that belongs to no VM. The disk enters the inventory once it is whole; if the creation fails, the
//! part undoes its own work.

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, Timestamp};

use crate::model::{CreateDisk, CreateImage, EntityKey, NewDisk};
use crate::plan::at::At;
use crate::plan::next::Next;
use crate::plan::tree::{Part, Plan};
use crate::plan::verb::{CommandVerb, Root};
use crate::plan::{new_disk, only_part};
use crate::state::State;

/// The place of the part that makes the disk.
const PLACE: &str = "disk";

impl Root for CreateDisk {
    fn plan(state: &State, id: CommandId, request: &NewDisk) -> Result<Plan, Fault> {
        let disk = new_disk::spec(id, PLACE, request);
        let host_id = new_disk::host(state, &disk, "")?;
        let image = CreateImage {
            vm_id: None,
            disk: disk.clone(),
            volume_id: id.volume(PLACE),
            host_id,
        };
        let locks = vec![
            (EntityKey::Disk(disk.disk_id), Mode::Exclusive),
            (EntityKey::Domain(disk.domain_id), Mode::Shared),
            (EntityKey::Host(host_id), Mode::Shared),
        ];
        Ok(Plan {
            children: vec![Part::leaf(PLACE, image)],
            ..Plan::of(Self { disk }, locks)
        })
    }
}

impl CommandVerb for CreateDisk {
    fn next(&self, at: At<'_>, now: Timestamp) -> Next {
        only_part::makes_a_disk(at, now)
    }

    fn undoing(&self, at: At<'_>) -> bool {
        only_part::undoing(at)
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::model::CommandState::*;
    use crate::model::{EntityKey, EventCode, Presence};
    use crate::testing::{Fate, World, cancel, command_id, create_disk, disk_id, host_id, refusal};

    #[test]
    fn a_disk_is_there_once_it_is_whole_and_is_nobodys() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        assert_eq!(world.engine.state.disk(disk_id(1)), None, "not before its image");
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        let disk = world.engine.state.disk(disk_id(1)).unwrap();
        assert_eq!(disk.last_vm, None);
        let presence = disk.observation.as_ref().map(|seen| seen.presence);
        assert_eq!(presence, Some(Presence::Whole));
        let told = |code| world.engine.events.iter().filter(|e| e.code == code).count();
        assert_eq!(told(EventCode::DiskCreated), 1);
    }

    #[test]
    fn one_that_cannot_be_made_is_undone_and_the_reason_is_the_commands() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::NoSpace)];
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        let root = world.root(1);
        assert_eq!((root.state, root.left_behind.len()), (Failed, 0));
        assert_eq!(
            root.fault.as_ref().map(|fault| fault.code),
            Some(FaultCode::NoSpace)
        );
        assert!(world.host_mut(0).images.is_empty());
        assert!(world.engine.state.lock_owners().is_empty());
    }

    #[test]
    fn what_was_neither_made_nor_unmade_rests_and_is_deleted_when_it_is_tried_again() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Fail];
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        let user = "op".to_owned();
        let command_id = command_id(1);
        world.step(Input::Retry { command_id, user });
        assert_eq!(world.state_of(1), Compensating);
        world.settle();
        assert_eq!((world.state_of(1), world.root(1).left_behind.len()), (Failed, 0));
        assert!(world.host_mut(0).images.is_empty());
    }

    #[test]
    fn given_up_it_names_the_disk() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Fail];
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        world.step(Input::Abandon {
            command_id: command_id(1),
            user: "op".into(),
            reason: "the storage is gone".into(),
        });
        let root = world.root(1);
        assert_eq!(root.state, Failed);
        assert_eq!(root.left_behind, [EntityKey::Disk(disk_id(1))]);
    }

    #[test]
    fn stopped_at_any_moment_before_it_is_whole_it_leaves_nothing() {
        for moments in 0..6 {
            for (crash, twice) in [(false, false), (true, false), (false, true)] {
                let mut world = World::with_domains(1);
                world.submit(1, "CreateDisk", create_disk(1, 0));
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
                assert!(world.host_mut(0).images.is_empty());
                assert_eq!(world.engine.state.disk(disk_id(1)), None);
            }
        }
    }

    #[test]
    fn stopped_while_its_host_is_away_it_waits_for_the_host_to_say_that_nothing_began() {
        let mut world = World::with_domains(1);
        world.disconnect(host_id(0));
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.step(cancel(1));
        assert_eq!(world.state_of(1), Active);
        world.settle();
        assert_eq!(world.state_of(1), Cancelled);
        assert!(world.host_mut(0).images.is_empty());
    }

    #[test]
    fn what_the_state_forbids_names_the_field() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        for (request, code, field) in [
            (create_disk(1, 0), FaultCode::EntityExists, "disk_id"),
            (create_disk(2, 7), FaultCode::EntityNotFound, "domain_id"),
        ] {
            let fault = refusal(world.submit(2, "CreateDisk", request));
            assert_eq!((fault.code, fault.subject.as_str()), (code, field));
        }
    }
}

//! Creates a VM with its disks, all at once. The VM and its disks enter the inventory by the change that ends the
//! command; if one disk fails, the others are undone.

use std::collections::{BTreeMap, BTreeSet};

use common::id::{CommandId, TaskId};
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{
    AsyncTask, Command, CommandParameters as _, CommandState, CreateImage, CreateVm, CreateVmRequest, Disk,
    DiskSpec, Ending, EntityKey, NewDisk, Place, Purpose, Vm,
};
use crate::plan::at::At;
use crate::plan::next::{Awaits, End, NewTask, Next, Work, child_failed, children_awaited, next_turn, rest};
use crate::plan::tree::{Part, Plan};
use crate::plan::verb::{CommandVerb, Root};
use crate::plan::{MAX_DISKS, made_disk, new_disk, undoable};
use crate::state::State;

impl Root for CreateVm {
    fn plan(state: &State, id: CommandId, request: &CreateVmRequest) -> Result<Plan, Fault> {
        let wanted = Self {
            vm_id: request.vm_id,
            name: request.name.clone(),
            description: request.description.clone(),
            disks: specs(id, &request.disks),
        };
        valid(&wanted)?;
        if state.vm(request.vm_id).is_some() {
            let message = format!("VM {} exists already", request.vm_id);
            return Err(Fault::new(FaultCode::EntityExists, message).about("vm_id"));
        }
        if let Some(other) = state.vm_named(&request.name) {
            let message = format!("VM {other} has this name already");
            return Err(Fault::new(FaultCode::EntityExists, message).about("name"));
        }
        let mut shared = BTreeSet::new();
        let mut locks = vec![
            (EntityKey::Vm(wanted.vm_id), Mode::Exclusive),
            (EntityKey::VmName(wanted.name.clone()), Mode::Exclusive),
        ];
        let mut children = Vec::with_capacity(wanted.disks.len());
        for (at, disk) in wanted.disks.iter().enumerate() {
            let part = part(state, id, &wanted, at, disk)?;
            locks.push((EntityKey::Disk(disk.disk_id), Mode::Exclusive));
            shared.insert(EntityKey::Domain(disk.domain_id));
            shared.extend(
                state
                    .domain(disk.domain_id)
                    .map(|domain| EntityKey::Host(domain.host_id)),
            );
            children.push(part);
        }
        locks.extend(shared.into_iter().map(|key| (key, Mode::Shared)));
        Ok(Plan {
            children,
            ..Plan::of(wanted, locks)
        })
    }
}

/// The requested disks.
fn specs(command: CommandId, asked: &[NewDisk]) -> Vec<DiskSpec> {
    let spec = |(at, disk)| new_disk::spec(command, &place(at), disk);
    asked.iter().enumerate().map(spec).collect()
}

fn place(at: usize) -> String {
    format!("disk/{at}")
}

/// Checks what does not depend on the state.
fn valid(wanted: &CreateVm) -> Result<(), Fault> {
    if wanted.disks.len() > MAX_DISKS {
        let problem = format!(
            "has {} entries; at most {MAX_DISKS} are allowed",
            wanted.disks.len()
        );
        return Err(Fault::invalid("disks", problem));
    }
    let mut named = BTreeSet::new();
    match wanted.disks.iter().position(|disk| !named.insert(disk.disk_id)) {
        Some(at) => {
            let problem = "names a disk that another entry names already";
            Err(Fault::invalid(format!("disks[{at}].disk_id"), problem))
        }
        None => Ok(()),
    }
}

fn part(state: &State, command: CommandId, vm: &CreateVm, at: usize, disk: &DiskSpec) -> Result<Part, Fault> {
    let image = CreateImage {
        vm_id: Some(vm.vm_id),
        disk: disk.clone(),
        volume_id: command.volume(&place(at)),
        host_id: new_disk::host(state, disk, &format!("disks[{at}]."))?,
    };
    Ok(Part::leaf(place(at), image))
}

impl CommandVerb for CreateVm {
    fn next(&self, at: At<'_>, now: Timestamp) -> Next {
        if self.undoing(at) {
            undo(at)
        } else if at.state.family(at.command.id).open.is_empty() {
            End::succeeded(created(at, self, now))
        } else {
            children_awaited(at)
        }
    }

    /// The disks that were made and are not undone.
    fn leftovers(&self, at: At<'_>) -> Vec<EntityKey> {
        let tried = tried(at);
        let left = (1..).zip(at.children()).filter(|(part, child)| {
            let undone = tried
                .get(part)
                .is_some_and(|task| task.ending() == Some(Ending::Done));
            child.state == CommandState::Succeeded && !undone
        });
        left.map(|(_, child)| child.parameters.entity()).collect()
    }

    /// A part has ended badly, or can only end badly.
    fn undoing(&self, at: At<'_>) -> bool {
        at.command.fault.is_some() || at.state.family(at.command.id).broken()
    }

    fn unmakes_parts(&self) -> bool {
        true
    }
}

/// The changes of a success: the disks, then the VM.
fn created(at: At<'_>, p: &CreateVm, now: Timestamp) -> Vec<Change> {
    let disks = at.children().filter_map(|part| {
        Some(Change::Disk(Disk {
            last_vm: Some(p.vm_id),
            ..made_disk(part, now)?
        }))
    });
    let vm = Change::Vm(Vm {
        id: p.vm_id,
        name: p.name.clone(),
        description: p.description.clone(),
        disk_ids: p.disks.iter().map(|disk| disk.disk_id).collect(),
        created: now,
    });
    disks.chain([vm]).collect()
}

/// Undo: disks in the making are stopped; finished disks are deleted, each by a task of its own, and only once the
/// task that made the disk is over.
fn undo(at: At<'_>) -> Next {
    let tried = tried(at);
    let work = undo_work(at, &tried);
    if work != Work::default() {
        return Next::Work(work);
    }
    let stuck = tried.values().find_map(|task| match task.ending() {
        None => task.attention().cloned(),
        Some(Ending::Done) => None,
        Some(Ending::Untouched(fault) | Ending::Unclear(fault)) => Some(fault),
    });
    if let Some(fault) = stuck {
        return rest(at.command, fault, false);
    }
    if !at.state.family(at.command.id).open.is_empty() {
        return children_awaited(at);
    }
    match tried.values().find(|task| task.is_open()) {
        Some(task) => Next::Wait(Awaits::task(task.id)),
        None => End::undone(at.command),
    }
}

/// The last undo of each part that was undone or is being undone, by the number of the part.
fn tried(at: At<'_>) -> BTreeMap<u32, &AsyncTask> {
    let tasks = at.command.tasks.iter().filter_map(|id| at.state.task(*id));
    tasks.filter_map(|task| Some((task.place?.part, task))).collect()
}

fn undo_work(at: At<'_>, tried: &BTreeMap<u32, &AsyncTask>) -> Work {
    let mut work = Work::default();
    if at.command.fault.is_none() {
        let family = at.state.family(at.command.id);
        // If parts were only stopped, nothing has failed.
        work.fault = child_failed(at).filter(|_| family.failed + family.bound_to_fail > 0);
    }
    for (part, child) in (1..).zip(at.children()) {
        if !child.state.is_terminal() {
            work.abort.extend(unwanted_task(at.state, child));
        } else if let (CommandState::Succeeded, Some((_, undo))) = (child.state, undoable(child)) {
            let place = undo_place(at.command, part, tried.get(&part).copied());
            work.start.extend(place.map(|place| NewTask {
                purpose: Purpose::Undo,
                place,
                planned: undo,
            }));
        }
    }
    work
}

fn unwanted_task(state: &State, child: &Command) -> Option<TaskId> {
    let task = state.task(*child.tasks.last()?)?;
    (task.is_open() && task.purpose == Purpose::Do && !task.abort_wanted).then_some(task.id)
}

fn undo_place(command: &Command, part: u32, last: Option<&AsyncTask>) -> Option<Place> {
    let Some(last) = last else {
        return Some(Place {
            part,
            attempt: command.attempt,
            turn: 1,
        });
    };
    match last.ending()? {
        Ending::Done => None,
        Ending::Untouched(fault) | Ending::Unclear(fault) => {
            next_turn(command.attempt, part, last.place?, &fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::model::CommandState::*;
    use crate::model::{EventCode, Presence};
    use crate::testing::{Fate, World, create_vm, disk_id, refusal, vm_id};

    #[test]
    fn a_vm_appears_with_its_disks_when_all_are_made() {
        let mut world = World::with_domains(2);
        world.submit(1, "CreateVm", create_vm(1, [1, 2, 3], 0));
        assert_eq!(world.engine.state.vm(vm_id(1)), None, "not before its disks");
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        let vm = world.engine.state.vm(vm_id(1)).unwrap();
        assert_eq!(vm.disk_ids, [disk_id(1), disk_id(2), disk_id(3)]);
        for id in &vm.disk_ids {
            let disk = world.engine.state.disk(*id).unwrap();
            assert_eq!(
                disk.observation.as_ref().map(|o| o.presence),
                Some(Presence::Whole)
            );
        }
        assert_eq!(
            world.engine.state.commands().count(),
            0,
            "what is over and cleared leaves the live state"
        );
        assert!(world.engine.events.iter().any(|e| e.code == EventCode::VmCreated));
    }

    #[test]
    fn a_vm_has_at_most_64_disks_and_no_two_of_one_id_whatever_the_state() {
        let mut world = World::new(1);
        for (disks, field) in [(1..66, "disks"), (1..65, "disks[0].domain_id")] {
            let fault = refusal(world.submit(1, "CreateVm", create_vm(1, disks, 0)));
            assert_eq!(fault.subject.as_str(), field, "{fault}");
        }
        let fault = refusal(world.submit(1, "CreateVm", create_vm(1, [1, 2, 1], 0)));
        assert_eq!(
            (fault.code, fault.subject.as_str()),
            (FaultCode::InvalidArgument, "disks[2].disk_id")
        );
    }

    #[test]
    fn a_vm_without_disks_is_there_at_once() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [], 0));
        assert_eq!(world.state_of(1), Succeeded);
        assert!(world.engine.state.vm(vm_id(1)).is_some());
    }

    #[test]
    fn if_one_disk_fails_the_others_are_undone_and_every_part_is_named() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Finish, Fate::Recover(FaultCode::NoSpace), Fate::Finish];
        world.submit(1, "CreateVm", create_vm(1, [1, 2, 3], 0));
        world.settle();
        let root = world.root(1);
        assert_eq!(root.state, Failed);
        assert_eq!(root.fault.as_ref().map(|f| f.code), Some(FaultCode::ChildFailed));
        assert_eq!(root.outcomes.len(), 3);
        assert_eq!(
            root.outcomes[1].fault.as_ref().map(|f| f.code),
            Some(FaultCode::NoSpace)
        );
        assert!(root.left_behind.is_empty());
        assert!(world.host_mut(0).images.is_empty());
    }

    #[test]
    fn what_a_restart_of_the_host_interrupted_is_sent_again() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::Interrupted); 2];
        world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        let again = world
            .engine
            .events
            .iter()
            .filter(|e| e.code == EventCode::TaskSentAgain);
        assert_eq!(again.count(), 2);
    }

    #[test]
    fn a_host_that_is_restarted_again_and_again_fails_the_command_and_leaves_nothing() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::Interrupted); 3];
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        let root = world.root(1);
        assert_eq!((root.state, root.left_behind.len()), (Failed, 0));
        assert_eq!(
            root.outcomes[0].fault.as_ref().map(|f| f.code),
            Some(FaultCode::Interrupted)
        );
        assert!(world.host_mut(0).images.is_empty());
    }

    #[test]
    fn one_that_has_failed_and_is_stopped_while_it_is_undone_has_failed() {
        for crash in [false, true] {
            let mut world = World::with_domains(1);
            world.host_mut(0).fates = vec![Fate::Finish, Fate::Recover(FaultCode::NoSpace)];
            world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
            while world.state_of(1) != Compensating {
                world.flow();
            }
            world.step(crate::input::Input::Cancel {
                command_id: crate::testing::command_id(1),
                user: "ann".into(),
            });
            if crash {
                world.crash();
            }
            world.settle();
            let root = world.root(1);
            assert_eq!((root.state, root.cancel_requested), (Failed, true));
            assert!(
                root.fault
                    .as_ref()
                    .is_some_and(|f| f.code == FaultCode::ChildFailed)
            );
            assert!(world.host_mut(0).images.is_empty());
        }
    }

    #[test]
    fn what_was_to_be_stopped_is_not_sent_again() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::Interrupted)];
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let command_id = crate::testing::command_id(1);
        world.step(crate::input::Input::Cancel {
            command_id,
            user: "ann".into(),
        });
        world.settle();
        assert_eq!(world.state_of(1), Cancelled);
        assert!(
            world
                .engine
                .events
                .iter()
                .all(|e| e.code != EventCode::TaskSentAgain)
        );
    }
}

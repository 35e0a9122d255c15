//! A leaf that makes an image by a task: what its end means, and how what it began is undone. Leaves differ only in
//! the operation that they plan; the disk is in the inventory only once the whole tree is done.

use common::id::{HostId, VolumeId};
use common::{Fault, Timestamp};

use super::deletion::delete_image;
use super::leaf::{current_task, first_place, start, untouched};
use super::next::{NewTask, Work, again, next_turn, rest, task_awaited};
use super::{Awaits, End, Next, PlannedTask};
use crate::model::{
    AsyncTask, AsyncTaskState, Command, CommandState, Disk, DiskSpec, Ending, Observation, Place, Presence,
    Purpose, Settled,
};
use crate::state::State;

/// What a leaf makes, and how.
pub(crate) trait NewImage {
    /// The disk, as it will be.
    fn disk(&self) -> &DiskSpec;

    /// Its volume.
    fn volume_id(&self) -> VolumeId;

    /// The host that makes it.
    fn host_id(&self) -> HostId;

    /// Do: the volume is LEGAL with generation 0.
    fn make(&self) -> PlannedTask;

    /// Undo: no file of the image is left.
    fn unmake(&self) -> PlannedTask {
        delete_image(self.host_id(), self.disk().domain_id, self.disk().disk_id)
    }
}

/// The disk that a leaf has made, once it is to be in the inventory; none for a command that makes none.
pub(super) fn made(leaf: &Command, now: Timestamp) -> Option<Disk> {
    let image = leaf.parameters.new_image()?;
    Some(Disk {
        spec: image.disk().clone(),
        last_vm: None,
        volume_id: image.volume_id(),
        // A host calls its task FINISHED only once the volume is whole and durable.
        observation: Some(Observation {
            presence: Presence::Whole,
            time: leaf.ended.unwrap_or(now),
            note: "as its creation ended".into(),
        }),
    })
}

/// Whether what there is of it is being deleted, or can only be.
pub(super) fn undoes(state: &State, command: &Command) -> bool {
    let undo = |(task, _): (&AsyncTask, Place)| task.purpose == Purpose::Undo;
    command.fault.is_some() || current_task(state, command).is_some_and(undo)
}

pub(super) fn next(state: &State, command: &Command, image: &dyn NewImage) -> Next {
    let Some((task, place)) = current_task(state, command) else {
        return Next::Stay;
    };
    match (task.purpose, task.ending()) {
        (_, None) => task_awaited(command, task),
        (Purpose::Undo, Some(Ending::Done)) => End::undone(command),
        (Purpose::Undo, Some(Ending::Untouched(fault) | Ending::Unclear(fault))) => {
            match next_turn(command.attempt, 0, place, &fault) {
                Some(place) => start(Purpose::Undo, place, image.unmake()),
                None => rest(command, fault, false),
            }
        }
        (_, Some(Ending::Done)) => End::succeeded(Vec::new()),
        (_, Some(Ending::Untouched(fault))) => match again(command, task, place, &fault) {
            Some(place) => start(Purpose::Do, place, image.make()),
            None if is_begun(state, command) => unmade(command, task, fault, image),
            None => untouched(command, task, fault),
        },
        (_, Some(Ending::Unclear(fault))) => unclear(command, task, place, fault, image),
    }
}

/// Whether a store of its host that is lost had begun it: what it left is no longer any task's own to undo.
fn is_begun(state: &State, command: &Command) -> bool {
    let tasks = command.tasks.iter().filter_map(|id| state.task(*id));
    let mut makers = tasks.filter(|task| task.purpose == Purpose::Do);
    makers.any(|task| task.begun_before || task.settled == Some(Settled::Unclear))
}

/// Its task changed nothing, and what was begun before it is deleted without asking: nobody else's is there.
fn unmade(command: &Command, task: &AsyncTask, fault: Fault, image: &dyn NewImage) -> Next {
    match task.abort_wanted || command.cancel_requested {
        true => start(Purpose::Undo, first_place(command), image.unmake()),
        false => give_up(command, image, fault),
    }
}

/// Neither made nor unmade. Where the host said so it can only fail, and an operator's retry deletes what is
/// there. Where the host lost its memory, a retry looks at storage again; and if it is not wanted any more, it is
/// deleted without asking: a creation begins in an image that is absent or empty, so nobody else's is there.
fn unclear(command: &Command, task: &AsyncTask, place: Place, fault: Fault, image: &dyn NewImage) -> Next {
    match task.settled {
        Some(Settled::Unclear) if command.fault.is_none() && task.abort_wanted => {
            start(Purpose::Undo, first_place(command), image.unmake())
        }
        Some(Settled::Unclear) if command.fault.is_none() => {
            if examines_again(command, task) {
                Next::Wait(Awaits::evidence(task.host_id))
            } else {
                rest(command, fault, false)
            }
        }
        _ => match command.attempt > place.attempt {
            true => start(Purpose::Undo, first_place(command), image.unmake()),
            false => rest(command, fault, true),
        },
    }
}

/// Whether storage is to be looked at once more.
pub(crate) fn examines_again(command: &Command, task: &AsyncTask) -> bool {
    command.parameters.new_image().is_some()
        && command.state == CommandState::Active
        && task.async_state == AsyncTaskState::Ended
        && task.purpose == Purpose::Do
        && task.settled == Some(Settled::Unclear)
        && task.attention().is_none()
        && command.tasks.last() == Some(&task.id)
}

/// What was seen when storage was looked at again shows nothing of the image: it is made anew.
pub(crate) fn make_anew(command: &Command, image: &dyn NewImage) -> Next {
    match command.cancel_requested {
        true => End::without_trace(command, None),
        false => start(Purpose::Do, first_place(command), image.make()),
    }
}

/// What was seen is neither: it is deleted, and the command fails.
pub(crate) fn give_up(command: &Command, image: &dyn NewImage, fault: Fault) -> Next {
    Next::Work(Work {
        fault: Some(fault),
        abort: Vec::new(),
        start: vec![NewTask {
            purpose: Purpose::Undo,
            place: first_place(command),
            planned: image.unmake(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use crate::input::{Ask, Evidence, Input, Remembered};
    use crate::model::CommandState::*;
    use crate::model::Purpose;
    use crate::testing::{Image, World, command_id, copy_disk, create_disk, create_vm, disk_id, host_id};

    /// All that makes disk 1.
    fn makers() -> [(&'static str, Ask); 3] {
        [
            ("CreateVm", create_vm(1, [1], 0)),
            ("CreateDisk", create_disk(1, 0)),
            ("CopyDisk", copy_disk(9, 1, 0)),
        ]
    }

    /// A disk in the making whose host lost its memory, and which is not wanted any more.
    fn unwanted_after_a_loss((rpc, ask): (&str, Ask), evidence: Evidence) -> World {
        let mut world = World::with_domains(1);
        world.submit(9, "CreateDisk", create_disk(9, 0));
        world.settle();
        world.submit(1, rpc, ask);
        let task_id = world.root(1).children.first().copied();
        let task_id = task_id
            .and_then(|id| world.command(id).tasks.first().copied())
            .unwrap();
        world.wipe(host_id(0));
        world.step(Input::Cancel {
            command_id: command_id(1),
            user: "ann".into(),
        });
        world.connect(host_id(0));
        let (store_id, start) = (world.host_mut(0).store, world.host_mut(0).present_start());
        world.step(Input::Probed {
            task_id,
            store_id,
            start,
            evidence,
            is_busy: false,
            remembered: Remembered::Unknown,
        });
        world
    }

    #[test]
    fn what_a_lost_host_left_of_an_unwanted_disk_is_deleted() {
        for maker in makers() {
            for evidence in [Evidence::EmptyImage, Evidence::Begun("half".into())] {
                let mut world = unwanted_after_a_loss(maker.clone(), evidence);
                let undo = world.engine.state.tasks().find(|t| t.purpose == Purpose::Undo);
                assert!(undo.is_some());
                world.settle();
                assert_eq!(world.state_of(1), Cancelled);
                assert!(!world.host_mut(0).images.contains_key(&disk_id(1)));
            }
        }
    }

    #[test]
    fn what_a_lost_host_began_is_deleted_where_the_next_one_never_comes_to_it() {
        for (rpc, ask) in makers() {
            let mut world = World::with_domains(1);
            world.submit(9, "CreateDisk", create_disk(9, 0));
            world.settle();
            world.submit(1, rpc, ask);
            let child = world.root(1).children.first().copied();
            let task_id = child.and_then(|id| world.command(id).tasks.first().copied());
            world.wipe(host_id(0));
            world.host_mut(0).images.insert(disk_id(1), Image::Partial);
            world.connect(host_id(0));
            let (store_id, start) = (world.host_mut(0).store, world.host_mut(0).present_start());
            world.step(Input::Probed {
                task_id: task_id.unwrap(),
                store_id,
                start,
                evidence: Evidence::EmptyImage,
                is_busy: false,
                remembered: Remembered::Unknown,
            });
            world.step(Input::Cancel {
                command_id: command_id(1),
                user: "ann".into(),
            });
            world.settle();
            assert_eq!(world.state_of(1), Cancelled, "{rpc}");
            let left = world.host_mut(0).images.contains_key(&disk_id(1));
            assert!(!left, "{rpc}: what was begun is still there");
        }
    }

    #[test]
    fn where_nothing_is_there_nothing_is_deleted() {
        for maker in makers() {
            let mut world = unwanted_after_a_loss(maker, Evidence::NotBegun);
            assert!(world.engine.state.tasks().all(|t| t.purpose == Purpose::Do));
            world.settle();
            assert_eq!(world.state_of(1), Cancelled);
        }
    }
}

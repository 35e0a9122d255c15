//! Creates one disk of a VM. Its disk is in the inventory only once the whole VM is.

use common::fault::FaultKind;
use common::id::{HostId, VmId, VolumeId};
use common::{CreateVolume, Fault, FaultCode, Operation};

use super::deletion::delete_image;
use super::next::{NewTask, Work, again, next_turn, rest, task_awaited};
use super::{Awaits, End, Next, PlannedTask};
use crate::model::{
    AsyncTask, AsyncTaskState, Command, CommandState, DiskSpec, Ending, Parameters, Place, Purpose, Settled,
};
use crate::state::State;

/// See [`crate::model::Parameters::CreateImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateImage {
    /// The VM that it will be attached to.
    pub vm_id: VmId,
    /// The disk.
    pub disk: DiskSpec,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The host that makes it.
    pub host_id: HostId,
}

/// Do: the volume is LEGAL with generation 0.
pub(super) fn create(p: &CreateImage) -> PlannedTask {
    PlannedTask {
        host_id: p.host_id,
        operation: Operation::CreateVolume(CreateVolume {
            domain_id: p.disk.domain_id,
            image_id: p.disk.disk_id.image(),
            volume_id: p.volume_id,
            capacity_bytes: p.disk.capacity_bytes,
            format: p.disk.format,
            allocation: p.disk.allocation,
            description: p.disk.description.clone(),
        }),
    }
}

/// Undo: no file of the image is left.
pub(super) fn undo(p: &CreateImage) -> PlannedTask {
    delete_image(p.host_id, p.disk.domain_id, p.disk.disk_id)
}

/// Whether what there is of it is being deleted, or can only be.
pub(super) fn undoes(state: &State, command: &Command) -> bool {
    let undo = |(task, _): (&AsyncTask, Place)| task.purpose == Purpose::Undo;
    command.fault.is_some() || current_task(state, command).is_some_and(undo)
}

pub(super) fn next(state: &State, command: &Command, p: &CreateImage) -> Next {
    let Some((task, place)) = current_task(state, command) else {
        return Next::Stay;
    };
    match (task.purpose, task.ending()) {
        (_, None) => task_awaited(command, task),
        (Purpose::Undo, Some(Ending::Done)) => undone(command),
        (Purpose::Undo, Some(Ending::Untouched(fault) | Ending::Unclear(fault))) => {
            match next_turn(command.attempt, 0, place, &fault) {
                Some(place) => start(Purpose::Undo, place, undo(p)),
                None => rest(command, fault, false),
            }
        }
        (_, Some(Ending::Done)) => End::succeeded(Vec::new()),
        (_, Some(Ending::Untouched(fault))) => match again(command, task, place, &fault) {
            Some(place) => start(Purpose::Do, place, create(p)),
            None => untouched(command, task, fault),
        },
        (_, Some(Ending::Unclear(fault))) => unclear(command, task, place, fault, p),
    }
}

/// What there was is deleted. Where nothing had failed, it was only not wanted any more.
fn undone(command: &Command) -> Next {
    match &command.fault {
        Some(fault) => End::without_trace(command, Some(fault.clone())),
        None => Next::End(Box::new(End {
            state: CommandState::Cancelled,
            fault: None,
            left_behind: Vec::new(),
            inventory: Vec::new(),
        })),
    }
}

/// Neither made nor unmade. Where the host said so it can only fail, and an operator's retry deletes what is
/// there. Where the host lost its memory, a retry looks at storage again; and if it is not wanted any more, it is
/// deleted without asking: a creation begins in an image that is absent or empty, so nobody else's is there.
fn unclear(command: &Command, task: &AsyncTask, place: Place, fault: Fault, p: &CreateImage) -> Next {
    match task.settled {
        Some(Settled::Unclear) if command.fault.is_none() && task.abort_wanted => {
            start(Purpose::Undo, first_place(command), undo(p))
        }
        Some(Settled::Unclear) if command.fault.is_none() => {
            if examines_again(command, task) {
                Next::Wait(Awaits::evidence(task.host_id))
            } else {
                rest(command, fault, false)
            }
        }
        _ => match command.attempt > place.attempt {
            true => start(Purpose::Undo, first_place(command), undo(p)),
            false => rest(command, fault, true),
        },
    }
}

/// Whether storage is to be looked at once more.
pub(crate) fn examines_again(command: &Command, task: &AsyncTask) -> bool {
    matches!(command.parameters, Parameters::CreateImage(_))
        && command.state == CommandState::Active
        && task.async_state == AsyncTaskState::Ended
        && task.purpose == Purpose::Do
        && task.settled == Some(Settled::Unclear)
        && task.attention().is_none()
        && command.tasks.last() == Some(&task.id)
}

/// What was seen when storage was looked at again shows nothing of the image: it is made anew.
pub(crate) fn make_anew(command: &Command, p: &CreateImage) -> Next {
    match command.cancel_requested {
        true => End::without_trace(command, None),
        false => start(Purpose::Do, first_place(command), create(p)),
    }
}

/// What was seen is neither: it is deleted, and the command fails.
pub(crate) fn give_up(command: &Command, p: &CreateImage, fault: Fault) -> Next {
    Next::Work(Work {
        fault: Some(fault),
        abort: Vec::new(),
        start: vec![NewTask {
            purpose: Purpose::Undo,
            place: first_place(command),
            planned: undo(p),
        }],
    })
}

/// The last of its tasks is the one that counts.
pub(super) fn current_task<'a>(state: &'a State, command: &Command) -> Option<(&'a AsyncTask, Place)> {
    let task = state.task(*command.tasks.last()?)?;
    Some((task, task.place?))
}

/// A leaf whose task changed nothing: stopped if that was wanted, whether the abort or a restart of its host came
/// first; failed otherwise.
pub(super) fn untouched(command: &Command, task: &AsyncTask, fault: Fault) -> Next {
    let wanted = task.abort_wanted || command.cancel_requested;
    let idle = fault.code.kind() == FaultKind::Cancelled || fault.code == FaultCode::Interrupted;
    let stopped = wanted && idle;
    Next::End(Box::new(End {
        state: if stopped {
            CommandState::Cancelled
        } else {
            CommandState::Failed
        },
        fault: Some(fault),
        left_behind: Vec::new(),
        inventory: Vec::new(),
    }))
}

pub(super) fn start(purpose: Purpose, place: Place, planned: PlannedTask) -> Next {
    Next::Work(Work {
        start: vec![NewTask {
            purpose,
            place,
            planned,
        }],
        ..Work::default()
    })
}

pub(super) fn first_place(command: &Command) -> Place {
    Place {
        part: 0,
        attempt: command.attempt,
        turn: 1,
    }
}

#[cfg(test)]
mod tests {
    use crate::input::{Evidence, Input};
    use crate::model::CommandState::*;
    use crate::model::Purpose;
    use crate::testing::{World, command_id, create_vm, disk_id, host_id};

    /// A VM in the making whose host lost its memory, and which is not wanted any more.
    fn unwanted_after_a_loss(evidence: Evidence) -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
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
        let store_id = world.host_mut(0).store;
        world.step(Input::Probed {
            task_id,
            store_id,
            evidence,
            strangers: false,
        });
        world
    }

    #[test]
    fn what_a_lost_host_left_of_an_unwanted_disk_is_deleted() {
        for evidence in [Evidence::EmptyImage, Evidence::Partial("half".into())] {
            let mut world = unwanted_after_a_loss(evidence);
            let undo = world.engine.state.tasks().find(|t| t.purpose == Purpose::Undo);
            assert!(undo.is_some());
            world.settle();
            assert_eq!(world.state_of(1), Cancelled);
            assert!(!world.host_mut(0).images.contains_key(&disk_id(1)));
        }
    }

    #[test]
    fn where_nothing_is_there_nothing_is_deleted() {
        let mut world = unwanted_after_a_loss(Evidence::NothingThere);
        assert!(world.engine.state.tasks().all(|t| t.purpose == Purpose::Do));
        world.settle();
        assert_eq!(world.state_of(1), Cancelled);
    }
}

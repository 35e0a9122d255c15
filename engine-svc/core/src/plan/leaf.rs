//! The one automaton of all commands that work by one task at a time: what the end of the task means, and how the
//! work of the task is undone. Leaves differ only in the operation that they plan, in how it is undone, and in what
//! it brings.

use common::fault::FaultKind;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use super::at::At;
use super::next::{Awaits, End, NewTask, Next, Work, again, next_turn, rest, task_awaited};
use super::tree::{Part, Plan};
use super::verb::{CommandVerb, Leaf, Undo};
use crate::model::{
    AsyncTask, AsyncTaskState, Command, CommandState, Ending, EntityKey, Parameters, Place, PlannedTask,
    Purpose, Settled,
};

impl Part {
    /// A child that works by a task.
    pub(crate) fn leaf(place: impl Into<String>, leaf: impl Leaf + Into<Parameters>) -> Self {
        Self {
            place: place.into(),
            task: Some(leaf.make()),
            parameters: leaf.into(),
            children: Vec::new(),
        }
    }
}

impl Plan {
    /// A root that works by a task, and has no children.
    pub(crate) fn leaf(leaf: impl Leaf + Into<Parameters>, locks: Vec<(EntityKey, Mode)>) -> Self {
        let task = Some(leaf.make());
        Self {
            task,
            ..Self::of(leaf, locks)
        }
    }
}

impl<L: Leaf> CommandVerb for L {
    fn next(&self, at: At<'_>, now: Timestamp) -> Next {
        next(self, at, now)
    }

    /// Whether the leaf's work is being undone, or nothing but an undo is left.
    fn undoing(&self, at: At<'_>) -> bool {
        let undo = |(task, _): (&AsyncTask, Place)| task.purpose == Purpose::Undo;
        match self.unmake() {
            Undo::Task(_) => at.command.fault.is_some() || current_task(at).is_some_and(undo),
            Undo::ByHost => false,
        }
    }

    fn leaf(&self) -> Option<&dyn Leaf> {
        Some(self)
    }
}

fn next(leaf: &dyn Leaf, at: At<'_>, now: Timestamp) -> Next {
    let Some((task, place)) = current_task(at) else {
        return Next::Stay;
    };
    let command = at.command;
    match (task.purpose, task.ending()) {
        (_, None) => task_awaited(command, task),
        (Purpose::Undo, Some(Ending::Done)) => End::undone(command),
        (Purpose::Undo, Some(Ending::Untouched(fault) | Ending::Unclear(fault))) => {
            match (leaf.unmake(), next_turn(command.attempt, 0, place, &fault)) {
                (Undo::Task(undo), Some(place)) => start(Purpose::Undo, place, undo),
                (Undo::ByHost, _) | (_, None) => rest(command, fault, false),
            }
        }
        (_, Some(Ending::Done)) => End::succeeded(leaf.done(at.state)),
        (_, Some(Ending::Untouched(fault))) => match (again(command, task, place, &fault), leaf.unmake()) {
            (Some(place), _) => start(Purpose::Do, place, leaf.make()),
            (None, Undo::Task(undo)) if is_begun(at) => unmade(command, task, fault, undo),
            (None, Undo::ByHost) if is_half_done(at, &fault) => half_done(leaf, at, place, fault, now),
            (None, _) => untouched(leaf, at, task, fault, now),
        },
        (_, Some(Ending::Unclear(fault))) => match leaf.unmake() {
            Undo::Task(undo) => unclear(command, task, place, fault, undo),
            Undo::ByHost => half_done(leaf, at, place, fault, now),
        },
    }
}

/// Whether a task of a leaf that the engine never undoes was neither done nor undone. A later task that changed
/// nothing leaves the disk half done, unless the later task found nothing at all: what somebody has removed is not
/// half done, and no retry would end the command.
fn is_half_done(at: At<'_>, latest: &Fault) -> bool {
    if matches!(latest.code, FaultCode::ImageNotFound | FaultCode::VolumeNotFound) {
        return false;
    }
    let mut tasks = at.command.tasks.iter().filter_map(|id| at.state.task(*id));
    tasks.any(|task| matches!(task.ending(), Some(Ending::Unclear(_))))
}

/// The task was neither done nor undone, and the engine never undoes it: an operator's retry does it again.
fn half_done(leaf: &dyn Leaf, at: At<'_>, place: Place, fault: Fault, now: Timestamp) -> Next {
    if at.command.attempt > place.attempt {
        return start(Purpose::Do, first_place(at.command), leaf.make());
    }
    match rest(at.command, fault, false) {
        Next::Rest(mut rest) => {
            rest.inventory = leaf.not_done(at.state, now);
            Next::Rest(rest)
        }
        other => other,
    }
}

/// The task that counts: the last one of the command.
fn current_task(at: At<'_>) -> Option<(&AsyncTask, Place)> {
    let task = at.state.task(*at.command.tasks.last()?)?;
    Some((task, task.place?))
}

/// Whether a task of the leaf had begun in a store that its host has lost: then no task undoes its own leftovers any
/// more.
fn is_begun(at: At<'_>) -> bool {
    let tasks = at.command.tasks.iter().filter_map(|id| at.state.task(*id));
    let mut makers = tasks.filter(|task| task.purpose == Purpose::Do);
    makers.any(|task| task.begun_before || task.settled == Some(Settled::Unclear))
}

/// The task changed nothing. The work that was begun before it is undone without asking, for the image can be nobody
/// else's.
fn unmade(command: &Command, task: &AsyncTask, fault: Fault, undo: PlannedTask) -> Next {
    match task.abort_wanted || command.cancel_requested {
        true => start(Purpose::Undo, first_place(command), undo),
        false => give_up(command, undo, fault),
    }
}

/// The task changed nothing: the command is stopped if somebody wanted that, whether the abort or a restart of the
/// host came first; otherwise the command fails.
fn untouched(leaf: &dyn Leaf, at: At<'_>, task: &AsyncTask, fault: Fault, now: Timestamp) -> Next {
    let wanted = task.abort_wanted || at.command.cancel_requested;
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
        inventory: if stopped {
            Vec::new()
        } else {
            leaf.not_done(at.state, now)
        },
    }))
}

/// The task was neither done nor undone. If the host said so, the command can only fail, and an operator's retry
/// undoes the work. If the host lost its memory, a retry examines storage again; and if the task is no longer wanted,
/// its work is undone without asking: a creation begins in an image that is absent or empty, so the image is nobody
/// else's.
fn unclear(command: &Command, task: &AsyncTask, place: Place, fault: Fault, undo: PlannedTask) -> Next {
    match task.settled {
        Some(Settled::Unclear) if command.fault.is_none() && task.abort_wanted => {
            start(Purpose::Undo, first_place(command), undo)
        }
        Some(Settled::Unclear) if command.fault.is_none() => {
            if examines_again(command, task) {
                Next::Wait(Awaits::evidence(task.host_id))
            } else {
                rest(command, fault, false)
            }
        }
        _ => match command.attempt > place.attempt {
            true => start(Purpose::Undo, first_place(command), undo),
            false => rest(command, fault, true),
        },
    }
}

/// Whether storage is to be examined once more for a leaf that a task can undo.
pub(super) fn examines_again(command: &Command, task: &AsyncTask) -> bool {
    command.state == CommandState::Active
        && task.async_state == AsyncTaskState::Ended
        && task.purpose == Purpose::Do
        && task.settled == Some(Settled::Unclear)
        && task.attention().is_none()
        && command.tasks.last() == Some(&task.id)
}

/// The second look at storage shows nothing of the work: the work is done anew.
pub(super) fn make_anew(leaf: &dyn Leaf, command: &Command) -> Next {
    match command.cancel_requested {
        true => End::without_trace(command, None),
        false => start(Purpose::Do, first_place(command), leaf.make()),
    }
}

/// The second look at storage shows the task neither done nor undone: its work is undone, and the command fails.
pub(super) fn give_up(command: &Command, undo: PlannedTask, fault: Fault) -> Next {
    Next::Work(Work {
        fault: Some(fault),
        abort: Vec::new(),
        start: vec![NewTask {
            purpose: Purpose::Undo,
            place: first_place(command),
            planned: undo,
        }],
    })
}

fn start(purpose: Purpose, place: Place, planned: PlannedTask) -> Next {
    Next::Work(Work {
        start: vec![NewTask {
            purpose,
            place,
            planned,
        }],
        ..Work::default()
    })
}

const fn first_place(command: &Command) -> Place {
    Place {
        part: 0,
        attempt: command.attempt,
        turn: 1,
    }
}

#[cfg(test)]
mod tests {
    use crate::input::{Evidence, Input, Remembered};
    use crate::model::CommandRequest;
    use crate::model::CommandState::*;
    use crate::model::Purpose;
    use crate::testing::{Image, World, command_id, copy_disk, create_disk, create_vm, disk_id, host_id};

    /// The requests that make disk 1.
    fn makers() -> [(&'static str, CommandRequest); 3] {
        [
            ("CreateVm", create_vm(1, [1], 0)),
            ("CreateDisk", create_disk(1, 0)),
            ("CopyDisk", copy_disk(9, 1, 0)),
        ]
    }

    /// A disk in the making: its host lost its memory, and the disk is no longer wanted.
    fn unwanted_after_a_loss((rpc, request): (&str, CommandRequest), evidence: Evidence) -> World {
        let mut world = World::with_domains(1);
        world.submit(9, "CreateDisk", create_disk(9, 0));
        world.settle();
        world.submit(1, rpc, request);
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
        for (rpc, request) in makers() {
            let mut world = World::with_domains(1);
            world.submit(9, "CreateDisk", create_disk(9, 0));
            world.settle();
            world.submit(1, rpc, request);
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

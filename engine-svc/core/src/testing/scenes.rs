//! Moves and ends that random histories may not meet, each met on purpose.

use std::time::Duration;

use common::{Fault, FaultCode, Operation};

use super::{
    Fate, Image, World, add_host, attach_disk, cancel, command_id, copy_disk, create_disk, create_domain,
    create_vm, detach_disk, disk_id, extend_disk, host_id, remove_disk, remove_host, remove_vm,
    take_over_host,
};
use crate::input::{Attempt, Evidence, Input, Remembered};
use crate::model::{AsyncTaskState, CommandState};

/// All of them, played.
pub(crate) fn all() -> Vec<World> {
    vec![
        looked_at_again(),
        given_up_while_a_part_waits_for_evidence(),
        a_call_that_rests_is_stopped_or_refused(true),
        a_call_that_rests_is_stopped_or_refused(false),
        gone_with_its_host(AsyncTaskState::Initializing),
        gone_with_its_host(AsyncTaskState::Watching),
        gone_with_its_host(AsyncTaskState::Ended),
        stopped_half_way(true),
        stopped_half_way(false),
        a_day_without_trouble(),
        a_clear_that_fails(),
        a_call_that_rests_is_answered(),
        waited_for_and_stopped(),
        waited_for_until_its_time_is_up(),
        waited_for_and_started(),
    ]
}

/// Two disks, one of which is made when the command is stopped; it is deleted, at the first try or at the second.
fn stopped_half_way(is_undone_at_once: bool) -> World {
    let mut world = World::with_domains(1);
    world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
    let is_half_done = |world: &World| {
        let mut children = world.root(1).children.iter();
        children.any(|child| world.command(*child).state == CommandState::Succeeded)
    };
    while !world.pending.is_empty() {
        world.perform(0, false);
    }
    let first = world.host_mut(0).moving_tasks()[0];
    while !is_half_done(&world) {
        assert!(
            world.host_mut(0).moving_tasks().contains(&first),
            "it is not made"
        );
        world.host_mut(0).advance(first);
        while world.deliver(host_id(0)) {}
    }
    if !is_undone_at_once {
        world.host_mut(0).fates = vec![Fate::Fail; 64];
    }
    world.step(cancel(1));
    world.settle();
    if !is_undone_at_once {
        assert_eq!(world.state_of(1), CommandState::NeedsAttention);
        world.host_mut(0).fates.clear();
        retry(&mut world);
        world.settle();
    }
    assert_eq!(world.state_of(1), CommandState::Cancelled);
    world
}

/// A command of each kind, done.
fn a_day_without_trouble() -> World {
    let mut world = World::new(2);
    for (n, rpc, request) in [
        (1, "AddHost", add_host(0)),
        (2, "CreateStorageDomain", create_domain(0, 0)),
        (3, "CreateVm", create_vm(1, [1, 2], 0)),
        (4, "CreateDisk", create_disk(3, 0)),
        (5, "AttachDisk", attach_disk(3, 1)),
        (6, "CopyDisk", copy_disk(3, 4, 0)),
        (7, "ExtendDisk", extend_disk(3, 8192)),
        (8, "DetachDisk", detach_disk(3, 1)),
        (9, "RemoveDisk", remove_disk(3)),
        (10, "RemoveVm", remove_vm(1)),
        (11, "AddHost", add_host(1)),
        (12, "TakeOverHost", take_over_host(1)),
        (13, "RemoveHost", remove_host(1)),
    ] {
        world.submit(n, rpc, request);
        world.settle();
        assert_eq!(world.state_of(n), CommandState::Succeeded, "{rpc}");
    }
    world
}

fn probe(world: &mut World, at: usize, evidence: Evidence, is_busy: bool) {
    let task_id = world.engine.state.tasks().nth(at).expect("it is there").id;
    let (store_id, start) = (world.host_mut(0).store, world.host_mut(0).present_start());
    world.step(Input::Probed {
        task_id,
        store_id,
        start,
        evidence,
        is_busy,
        remembered: Remembered::Unknown,
    });
}

fn retry(world: &mut World) {
    world.step(Input::Retry {
        command_id: command_id(1),
        user: "op".into(),
    });
}

/// Two disks of which storage did not tell whether they were made, about to be looked at once more.
fn unclear() -> World {
    let mut world = World::with_domains(1);
    world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
    world.wipe(host_id(0));
    world.connect(host_id(0));
    for at in 0..2 {
        probe(
            &mut world,
            at,
            Evidence::Unclear("it cannot be read".into()),
            false,
        );
    }
    assert_eq!(world.state_of(1), CommandState::NeedsAttention);
    retry(&mut world);
    world
}

fn looked_at_again() -> World {
    let mut world = unclear();
    for disk in [1, 2] {
        world.host_mut(0).images.insert(disk_id(disk), Image::Whole);
    }
    for at in 0..2 {
        probe(&mut world, at, Evidence::Done, false);
    }
    assert_eq!(world.state_of(1), CommandState::Succeeded);
    world
}

fn given_up_while_a_part_waits_for_evidence() -> World {
    let mut world = unclear();
    probe(&mut world, 0, Evidence::Done, true);
    assert_eq!(world.state_of(1), CommandState::NeedsAttention);
    world.step(Input::Abandon {
        command_id: command_id(1),
        user: "op".into(),
        reason: "enough".into(),
    });
    assert_eq!(world.state_of(1), CommandState::Failed);
    world
}

fn a_call_that_rests_is_stopped_or_refused(is_stopped: bool) -> World {
    let mut world = World::new(1);
    world.submit(1, "AddHost", add_host(0));
    let host_id = host_id(0);
    world.step(Input::RetriesSpent {
        host_id,
        what: Attempt::Call(command_id(1)),
        fault: Fault::new(FaultCode::HostAway, "nobody answers"),
    });
    assert_eq!(world.state_of(1), CommandState::NeedsAttention);
    if is_stopped {
        world.step(Input::Cancel {
            command_id: command_id(1),
            user: "ann".into(),
        });
        assert_eq!(world.state_of(1), CommandState::Cancelled);
    } else {
        world.step(Input::HostRefused {
            host_id,
            fault: Fault::new(FaultCode::HostIdMismatch, "somebody else"),
            is_proven: false,
        });
        assert_eq!(world.state_of(1), CommandState::Failed);
    }
    world
}

/// A task that the engine does not know, of a host that loses its memory: while the task waits there to be asked for, while it is at
/// work, or when it has ended.
fn gone_with_its_host(wanted: AsyncTaskState) -> World {
    let mut world = World::with_domains(1);
    let task = if wanted == AsyncTaskState::Initializing {
        let records = world.engine.records.clone();
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.perform(0, false);
        let task = world.engine.state.tasks().next().expect("it is recorded").id;
        world.restart(host_id(0));
        world.put_engine_back(records);
        task
    } else {
        let task = common::id::TaskId::from_uuid(uuid::Uuid::from_u128(0x9000));
        world
            .host_mut(0)
            .start_foreign(task, Operation::Noop(common::Noop));
        task
    };
    world.connect(host_id(0));
    while world.engine.state.task(task).map(|task| task.async_state) != Some(wanted) {
        let goes_on = match wanted {
            AsyncTaskState::Ended => world.flow(),
            _ => world.deliver(host_id(0)),
        };
        assert!(goes_on, "it is shown");
    }
    world.wipe(host_id(0));
    world.host_mut(0).orphans.clear();
    world.connect(host_id(0));
    assert!(world.engine.state.task(task).is_none(), "it is gone");
    world
}

fn a_call_that_rests_is_answered() -> World {
    let mut world = World::new(1);
    world.submit(1, "AddHost", add_host(0));
    let host_id = host_id(0);
    world.connect(host_id);
    world.step(Input::RetriesSpent {
        host_id,
        what: Attempt::Call(command_id(1)),
        fault: Fault::new(FaultCode::HostAway, "nobody answers"),
    });
    assert_eq!(world.state_of(1), CommandState::NeedsAttention);
    world.perform(0, false);
    assert_eq!(world.state_of(1), CommandState::Succeeded);
    world
}

/// A disk in the making, and a command that waits for its end.
fn waiting() -> World {
    let mut world = World::with_domains(1);
    world.submit(1, "CreateDisk", create_disk(1, 0));
    world.submit_waiting(2, "CreateVm", create_vm(1, [1], 0), Duration::from_micros(500));
    assert_eq!(world.state_of(2), CommandState::Pending);
    world
}

fn waited_for_and_stopped() -> World {
    let mut world = waiting();
    world.step(Input::Cancel {
        command_id: command_id(2),
        user: "ann".into(),
    });
    assert_eq!(world.state_of(2), CommandState::Cancelled);
    world
}

fn waited_for_until_its_time_is_up() -> World {
    let mut world = waiting();
    world.look_at_waits(1_000);
    assert_eq!(world.state_of(2), CommandState::Failed);
    world
}

fn waited_for_and_started() -> World {
    let mut world = waiting();
    world.step(Input::Cancel {
        command_id: command_id(1),
        user: "ann".into(),
    });
    world.settle();
    assert_eq!(world.state_of(2), CommandState::Succeeded);
    world
}

fn a_clear_that_fails() -> World {
    let mut world = World::with_domains(1);
    world.submit(1, "CreateDisk", create_disk(1, 0));
    while world.state_of(1) != CommandState::Succeeded {
        assert!(world.flow(), "it is made");
    }
    let task_id = world.engine.state.tasks().next().expect("its task").id;
    let fault = Fault::new(FaultCode::HostAway, "a cut");
    world.step(Input::ClearFailed { task_id, fault });
    world.settle();
    assert!(
        world.engine.state.task(task_id).is_none(),
        "it is cleared after all"
    );
    world
}

//! A story told again and again, with the process killed at every input, after every number of its changes; and
//! with every input said twice. Its end must be the one of the story that nothing disturbed.

use std::collections::BTreeSet;

use common::FaultCode;

use super::{
    Fate, Size, World, add_host, attach_disk, copy_disk, create_disk, create_domain, create_vm, detach_disk,
    extend_disk, host_id, remove_disk, remove_host, remove_vm, submission, take_over_host,
};
use crate::change::Change;
use crate::input::{Input, MAX_LOCK_WAIT};
use crate::model::{CommandKind, CommandRequest, CommandState};

/// What a story ends with.
#[derive(Debug, PartialEq, Eq)]
struct End {
    states: Vec<CommandState>,
    vms: usize,
    disks: usize,
    images: usize,
    hosts: usize,
    domains: usize,
    /// Of each disk: what is recorded, and what its host has.
    sizes: Vec<(u64, Option<Size>)>,
}

/// A request, by whose number it is known. A user who got no answer repeats it, and the shell gives the repeat a
/// command id of its own.
type Request = (u128, &'static str, CommandRequest);

#[derive(Default)]
struct Story {
    /// Told in peace.
    before: Vec<Request>,
    requests: Vec<Request>,
    fates: Vec<Fate>,
    /// They come one after the other at once, and wait for each other.
    at_once: bool,
}

impl Story {
    /// What is made is removed again.
    fn made_and_removed() -> Self {
        Self {
            requests: vec![
                (1, "CreateVm", create_vm(1, [1, 2, 3], 0)),
                (2, "RemoveVm", remove_vm(1)),
            ],
            ..Self::default()
        }
    }

    /// One disk of three cannot be made, and an undo has to be tried twice.
    fn undone() -> Self {
        Self {
            requests: vec![(1, "CreateVm", create_vm(1, [1, 2, 3], 0))],
            fates: vec![
                Fate::Recover(FaultCode::ImageInUse),
                Fate::Finish,
                Fate::Recover(FaultCode::NoSpace),
                Fate::Finish,
            ],
            ..Self::default()
        }
    }

    /// A disk is made, given to a VM, copied, taken back and removed.
    fn passed_around() -> Self {
        Self {
            requests: vec![
                (1, "CreateDisk", create_disk(1, 0)),
                (2, "CreateVm", create_vm(1, [], 0)),
                (3, "AttachDisk", attach_disk(1, 1)),
                (4, "CopyDisk", copy_disk(1, 2, 0)),
                (5, "DetachDisk", detach_disk(1, 1)),
                (6, "RemoveDisk", remove_disk(1)),
            ],
            ..Self::default()
        }
    }

    /// VMs and disks that want the same disks: each waits for those before.
    fn waited_for() -> Self {
        Self {
            requests: vec![
                (1, "CreateVm", create_vm(1, [1, 2], 0)),
                (2, "CreateVm", create_vm(2, [1, 3], 0)),
                (3, "CreateDisk", create_disk(3, 0)),
                (4, "CreateVm", create_vm(3, [1, 2, 3], 0)),
            ],
            fates: vec![Fate::Recover(FaultCode::NoSpace), Fate::Finish],
            at_once: true,
            ..Self::default()
        }
    }

    /// A disk grows at the second try, and once more for a VM.
    fn grown() -> Self {
        Self {
            before: vec![(0x31, "CreateDisk", create_disk(1, 0))],
            requests: vec![
                (1, "ExtendDisk", extend_disk(1, 8_192)),
                (2, "ExtendDisk", extend_disk(1, 8_192)),
                (3, "CreateVm", create_vm(1, [], 0)),
                (4, "AttachDisk", attach_disk(1, 1)),
                (5, "ExtendDisk", extend_disk(1, 16_384)),
            ],
            fates: vec![Fate::Finish, Fate::Finish, Fate::Recover(FaultCode::NoSpace)],
            ..Self::default()
        }
    }

    /// A disk is copied, and grows in its turn, twice.
    fn grown_in_turn() -> Self {
        Self {
            before: vec![(0x31, "CreateDisk", create_disk(1, 0))],
            requests: vec![
                (1, "CopyDisk", copy_disk(1, 2, 0)),
                (2, "ExtendDisk", extend_disk(1, 8_192)),
                (3, "ExtendDisk", extend_disk(1, 8_192)),
                (4, "ExtendDisk", extend_disk(1, 16_384)),
            ],
            at_once: true,
            ..Self::default()
        }
    }

    /// A copy cannot be made at first, then it is.
    fn copied_at_the_second_try() -> Self {
        Self {
            requests: vec![
                (1, "CreateDisk", create_disk(1, 0)),
                (2, "CopyDisk", copy_disk(1, 2, 0)),
                (3, "CopyDisk", copy_disk(1, 2, 0)),
                (4, "RemoveDisk", remove_disk(2)),
            ],
            fates: vec![Fate::Recover(FaultCode::NoSpace), Fate::Finish],
            ..Self::default()
        }
    }

    /// A host comes, serves a domain, changes hands, and another comes and goes.
    fn hosts_come_and_go() -> Self {
        Self {
            requests: vec![
                (1, "AddHost", add_host(1)),
                (2, "CreateStorageDomain", create_domain(7, 1)),
                (3, "TakeOverHost", take_over_host(1)),
                (4, "AddHost", add_host(2)),
                (5, "TakeOverHost", take_over_host(2)),
                (6, "RemoveHost", remove_host(2)),
            ],
            ..Self::default()
        }
    }

    fn all() -> Vec<Self> {
        vec![
            Self::made_and_removed(),
            Self::undone(),
            Self::passed_around(),
            Self::copied_at_the_second_try(),
            Self::hosts_come_and_go(),
            Self::waited_for(),
            Self::grown(),
            Self::grown_in_turn(),
        ]
    }

    /// Told from the first request on, after `prepare` has had its way with the world.
    fn tell(&self, prepare: impl FnOnce(&mut World), twice: bool) -> (World, End) {
        let mut world = World::with_domains_and(1, 2);
        for (n, rpc, request) in &self.before {
            self.ask(&mut world, *n, rpc, request, 0);
            world.settle();
        }
        world.host_mut(0).fates.clone_from(&self.fates);
        prepare(&mut world);
        let mut states = Vec::new();
        if self.at_once {
            return self.tell_at_once(world, twice);
        }
        for (n, rpc, request) in &self.requests {
            let mut id = self.ask(&mut world, *n, rpc, request, 0);
            if id.is_none() || twice {
                id = self.ask(&mut world, *n, rpc, request, 0x50);
            }
            settle(&mut world, twice);
            states.push(world.command(id.expect("accepted")).state);
        }
        self.end(world, states)
    }

    fn tell_at_once(&self, mut world: World, twice: bool) -> (World, End) {
        let mut ids = Vec::new();
        for (n, rpc, request) in &self.requests {
            let mut id = self.ask(&mut world, *n, rpc, request, 0);
            if id.is_none() || twice {
                id = self.ask(&mut world, *n, rpc, request, 0x50);
            }
            ids.push(id.expect("accepted"));
        }
        settle(&mut world, twice);
        let states = ids.iter().map(|id| world.command(*id).state).collect();
        self.end(world, states)
    }

    fn end(&self, world: World, states: Vec<CommandState>) -> (World, End) {
        let end = End {
            states,
            vms: world.engine.state.vms().count(),
            disks: world.engine.state.disks().count(),
            images: world.hosts[&host_id(0)].images.len(),
            hosts: world.engine.state.hosts().count(),
            domains: world.engine.state.domains().count(),
            sizes: sizes(&world),
        };
        assert_eq!(
            world.engine.state.commands().count(),
            0,
            "all is over and cleared"
        );
        assert!(world.engine.state.lock_owners().is_empty());
        (world, end)
    }

    /// The command that the request is recorded as, if it is.
    fn ask(
        &self,
        world: &mut World,
        n: u128,
        rpc: &str,
        request: &CommandRequest,
        other: u128,
    ) -> Option<common::id::CommandId> {
        let mut asked = submission(n, rpc, request.clone());
        asked.lock_wait = self.at_once.then_some(MAX_LOCK_WAIT);
        asked.command_id = super::command_id(n + other);
        let key = asked.request_id;
        world.step(Input::Submit(Box::new(asked)));
        world.engine.records.values().find_map(|record| match record {
            Change::Command(c) if c.request.as_ref().is_some_and(|r| r.request_id == key) => Some(c.id),
            _ => None,
        })
    }
}

fn sizes(world: &World) -> Vec<(u64, Option<Size>)> {
    let host = &world.hosts[&host_id(0)];
    let sizes = world.engine.state.disks();
    sizes
        .map(|disk| (disk.spec.capacity_bytes, host.size(disk.spec.disk_id)))
        .collect()
}

fn settle(world: &mut World, twice: bool) {
    if twice {
        let mut heard = 0;
        for _ in 0..200 {
            (0..3).for_each(|n| world.connect(host_id(n)));
            world.flow();
            for input in world.said.split_off(heard) {
                world.said.push(input.clone());
                world.step(input);
            }
            heard = world.said.len();
        }
    }
    world.settle();
}

fn killed_everywhere(story: &Story) {
    let mut first = 0;
    let (undisturbed, end) = story.tell(|world| first = world.engine.inputs() + 1, false);
    let last = undisturbed.engine.inputs();
    let mut told = 0;
    for at in first..=last {
        for changes in 0.. {
            let (world, cut_end) = story.tell(|world| world.engine.cut = Some((at, changes)), false);
            assert_eq!(cut_end, end, "killed at input {at} after {changes} changes");
            told += 1;
            if changes >= world.engine.cut_of {
                break;
            }
        }
    }
    assert!(told > 50, "{told} is no story");
}

#[test]
fn killed_after_any_change_of_any_input_a_story_of_success_ends_as_if_it_had_not_been() {
    killed_everywhere(&Story::made_and_removed());
}

#[test]
fn killed_after_any_change_of_any_input_a_story_of_undoing_ends_as_if_it_had_not_been() {
    killed_everywhere(&Story::undone());
}

#[test]
fn killed_after_any_change_of_any_input_a_story_of_disks_ends_as_if_it_had_not_been() {
    killed_everywhere(&Story::passed_around());
    killed_everywhere(&Story::copied_at_the_second_try());
}

#[test]
fn killed_after_any_change_of_any_input_a_story_of_growing_ends_as_if_it_had_not_been() {
    killed_everywhere(&Story::grown());
    killed_everywhere(&Story::grown_in_turn());
}

#[test]
fn killed_after_any_change_of_any_input_a_story_of_hosts_ends_as_if_it_had_not_been() {
    killed_everywhere(&Story::hosts_come_and_go());
}

#[test]
fn every_kind_of_command_is_in_a_story() {
    let mut told = BTreeSet::new();
    for story in Story::all() {
        let roots: BTreeSet<_> = story
            .requests
            .iter()
            .map(|(n, ..)| super::command_id(*n))
            .collect();
        let (world, _) = story.tell(|_| {}, false);
        told.extend(world.engine.records.values().filter_map(|record| match record {
            Change::Command(c) if c.state == CommandState::Succeeded && roots.contains(&c.root) => {
                Some(c.kind())
            }
            _ => None,
        }));
    }
    let forgotten: Vec<_> = CommandKind::ALL
        .iter()
        .filter(|kind| !told.contains(kind))
        .collect();
    assert!(forgotten.is_empty(), "no story of {forgotten:?}");
}

#[test]
fn killed_after_any_change_of_any_input_a_story_of_waiting_ends_as_if_it_had_not_been() {
    killed_everywhere(&Story::waited_for());
}

#[test]
fn every_input_said_twice_changes_nothing_about_the_end() {
    for story in Story::all() {
        let (_, end) = story.tell(|_| {}, false);
        let (_, twice) = story.tell(|_| {}, true);
        assert_eq!(twice, end);
    }
}

//! Random histories: users, hosts, wires and processes do what they can do, in any order; then the world turns
//! fair, and everything must come to its end. A failing history is printed by proptest with its seed, shrunk.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use common::id::{CommandId, TaskId, VolumeId};
use common::{
    Allocation, CopyVolume, CreateVolume, DeleteImage, ExtendVolume, FaultCode, Noop, Operation,
    VolumeAddress, VolumeFormat,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::{
    Fate, Moved, Size, World, command_id, create_vm, disk_id, domain_id, host_id, remove_vm, scenes, vm_id,
};
use crate::input::{Attempt, Input};
use crate::model::{AsyncTaskState, Command, CommandKind, CommandRequest, CommandState};
use crate::step::Reply;

/// Hosts with a domain each; one more has none, and comes and goes.
const HOSTS: u128 = 2;

/// Disks that there may be, those of VMs among them.
const DISKS: u128 = 72;

/// What somebody does; the number says to what.
#[derive(Debug, Clone, Copy)]
enum Action {
    CreateVm(u16),
    RemoveVm(u16),
    CreateDisk(u16),
    RemoveDisk(u16),
    AttachDisk(u16),
    DetachDisk(u16),
    CopyDisk(u16),
    ExtendDisk(u16),
    Vanish(u16),
    AddHost,
    RemoveHost,
    TakeOverHost(u16),
    CreateDomain(u16),
    Cancel(u16),
    Retry(u16),
    Abandon(u16),
    Perform(u16),
    PerformUnheard(u16),
    Advance(u16),
    Deliver(u16),
    LoseFrame(u16),
    Connect(u16),
    Disconnect(u16),
    Wipe(u16),
    Restart(u16),
    Copy(u16),
    PutBack(u16),
    EndOrphan(u16),
    Foreign(u16),
    Fate(u16),
    CallFault(u16),
    SpendRetries(u16),
    SpendCall(u16),
    WaitFor(u16),
    LookAtWaits(u16),
    FailClear(u16),
    Again(u16),
    Flow,
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    let n = any::<u16>();
    prop_oneof![
        6 => n.prop_map(Action::CreateVm),
        6 => n.prop_map(Action::RemoveVm),
        4 => n.prop_map(Action::CreateDisk),
        3 => n.prop_map(Action::RemoveDisk),
        6 => n.prop_map(Action::AttachDisk),
        2 => n.prop_map(Action::DetachDisk),
        8 => n.prop_map(Action::CopyDisk),
        6 => n.prop_map(Action::ExtendDisk),
        1 => n.prop_map(Action::Vanish),
        1 => Just(Action::AddHost),
        1 => Just(Action::RemoveHost),
        1 => n.prop_map(Action::TakeOverHost),
        1 => n.prop_map(Action::CreateDomain),
        2 => n.prop_map(Action::Cancel),
        2 => n.prop_map(Action::Retry),
        2 => n.prop_map(Action::Abandon),
        15 => n.prop_map(Action::Perform),
        4 => n.prop_map(Action::PerformUnheard),
        15 => n.prop_map(Action::Advance),
        15 => n.prop_map(Action::Deliver),
        30 => Just(Action::Flow),
        1 => n.prop_map(Action::LoseFrame),
        8 => n.prop_map(Action::Connect),
        3 => n.prop_map(Action::Disconnect),
        3 => n.prop_map(Action::Wipe),
        2 => n.prop_map(Action::Restart),
        4 => n.prop_map(Action::Copy),
        4 => n.prop_map(Action::PutBack),
        2 => n.prop_map(Action::EndOrphan),
        1 => n.prop_map(Action::Foreign),
        6 => n.prop_map(Action::Fate),
        1 => n.prop_map(Action::CallFault),
        1 => n.prop_map(Action::SpendRetries),
        2 => n.prop_map(Action::SpendCall),
        12 => n.prop_map(Action::WaitFor),
        2 => n.prop_map(Action::LookAtWaits),
        2 => n.prop_map(Action::FailClear),
        5 => n.prop_map(Action::Again),
        2 => Just(Action::Crash),
    ]
}

struct Life {
    world: World,
    /// For how long the next request may wait for its locks.
    lock_wait: Option<Duration>,
    requests: u128,
    foreigners: u128,
}

impl Life {
    fn new() -> Self {
        let mut world = World::new(HOSTS + 1);
        for n in 0..HOSTS {
            world.submit(0x100 + n, "AddHost", super::add_host(n));
            world.settle();
            world.submit(0x200 + n, "CreateStorageDomain", super::create_domain(n, n));
            world.settle();
        }
        Self {
            world,
            lock_wait: None,
            requests: 0x1000,
            foreigners: 0,
        }
    }

    fn ask(&mut self, rpc: &str, request: CommandRequest) {
        self.requests += 1;
        let mut asked = super::submission(self.requests, rpc, request);
        asked.lock_wait = self.lock_wait.take();
        self.world.step(Input::Submit(Box::new(asked)));
    }

    fn pick(&self, n: u16) -> u128 {
        let roots = self.requests - 0x1000;
        if roots == 0 {
            0x1000
        } else {
            0x1001 + u128::from(n) % roots
        }
    }

    /// The kinds of commands that actions asked for and that have succeeded.
    fn succeeded(&self) -> impl Iterator<Item = CommandKind> {
        let asked: BTreeSet<CommandId> = (0x1001..=self.requests).map(command_id).collect();
        succeeded(&self.world, move |root| asked.contains(&root))
    }

    /// A disk: one that is there, if the number says so and there is any.
    fn disk(&self, n: u16) -> u128 {
        let base = disk_id(0).as_uuid().as_u128();
        let there = self.world.engine.state.disks();
        let there: Vec<u128> = there.map(|d| d.spec.disk_id.as_uuid().as_u128() - base).collect();
        match there.len() {
            0 => u128::from(n) % DISKS,
            _ if n.is_multiple_of(8) => u128::from(n / 8) % DISKS,
            len => there[usize::from(n) % len],
        }
    }

    /// A verb for a command that rests, if one does.
    fn operator(&mut self, n: u16, verb: impl Fn(CommandId, String) -> Input) {
        let rests = |command: &&Command| command.is_root() && command.state == CommandState::NeedsAttention;
        let resting: Vec<CommandId> = self
            .world
            .engine
            .state
            .commands()
            .filter(rests)
            .map(|c| c.id)
            .collect();
        if !resting.is_empty() {
            self.world
                .step(verb(resting[usize::from(n) % resting.len()], "op".to_owned()));
        }
    }

    fn user(&mut self, n: u16, verb: impl Fn(CommandId, String) -> Input) {
        let command = command_id(self.pick(n));
        self.world.step(verb(command, "op".to_owned()));
    }

    fn act(&mut self, action: Action) {
        let world = &mut self.world;
        let of = |n: u16| host_id(u128::from(n) % (HOSTS + 1));
        match action {
            Action::CreateVm(n) => {
                let n = u128::from(n);
                let disks = (n / 64) % 4;
                let first = n % 16 * 4;
                let request = create_vm(n % 16, first..first + disks, n % HOSTS);
                self.ask("CreateVm", request);
            }
            Action::RemoveVm(n) => {
                let there: Vec<u128> = (0..16)
                    .filter(|vm| world.engine.state.vm(vm_id(*vm)).is_some())
                    .collect();
                let vm = there.get(usize::from(n) % there.len().max(1)).copied();
                self.ask("RemoveVm", remove_vm(vm.unwrap_or(0)));
            }
            Action::CreateDisk(n) => {
                let n = u128::from(n);
                self.ask("CreateDisk", super::create_disk(n / 2 % DISKS, n % HOSTS));
            }
            Action::RemoveDisk(n) => {
                let disk = self.disk(n);
                self.ask("RemoveDisk", super::remove_disk(disk));
            }
            Action::AttachDisk(n) => {
                let there: Vec<u128> = (0..16)
                    .filter(|vm| world.engine.state.vm(vm_id(*vm)).is_some())
                    .collect();
                let vm = there.get(usize::from(n) % there.len().max(1)).copied();
                let free = |disk: &u128| world_vm(&self.world, *disk).is_none();
                let disk = (0..8).map(|more| self.disk(n / 16 + more)).find(free);
                let request = super::attach_disk(disk.unwrap_or(0), vm.unwrap_or(0));
                self.ask("AttachDisk", request);
            }
            Action::DetachDisk(n) => {
                let disk = self.disk(n / 16);
                let of = world_vm(&self.world, disk).unwrap_or(u128::from(n) % 16);
                self.ask("DetachDisk", super::detach_disk(disk, of));
            }
            Action::CopyDisk(n) => {
                let source = self.disk(n / 2);
                // Mostly to its own domain, for the other is another host's.
                let own = self.world.engine.state.disk(disk_id(source));
                let own = own.map(|disk| u128::from(disk.spec.domain_id == domain_id(1)));
                let domain = own.filter(|_| n % 16 > 0).unwrap_or(u128::from(n) % HOSTS);
                let request = super::copy_disk(source, u128::from(n) / 7 % DISKS, domain);
                self.ask("CopyDisk", request);
            }
            Action::ExtendDisk(n) => {
                let disk = self.disk(n / 4);
                let has = self.world.engine.state.disk(disk_id(disk));
                let has = has.map_or(4096, |disk| disk.spec.capacity_bytes);
                self.ask(
                    "ExtendDisk",
                    super::extend_disk(disk, has + u64::from(n % 4) * 4096),
                );
            }
            Action::Vanish(n) => {
                let disk = disk_id(self.disk(n));
                // Whoever removes it by hand takes care that nobody makes it just now.
                if self.world.engine.state.disk(disk).is_some() {
                    self.world.hosts.values_mut().for_each(|host| host.vanish(disk));
                }
            }
            Action::AddHost => self.ask("AddHost", super::add_host(HOSTS)),
            Action::RemoveHost => self.ask("RemoveHost", super::remove_host(HOSTS)),
            Action::TakeOverHost(n) => {
                let host = u128::from(n) % (HOSTS + 1);
                self.ask("TakeOverHost", super::take_over_host(host));
            }
            // Of those that stay: a host that serves a domain is not removed.
            Action::CreateDomain(n) => {
                let domain = HOSTS + u128::from(n / 2) % 4;
                self.ask(
                    "CreateStorageDomain",
                    super::create_domain(domain, u128::from(n) % HOSTS),
                );
            }
            Action::Cancel(n) => self.user(n, |command_id, user| Input::Cancel { command_id, user }),
            Action::Retry(n) => self.operator(n, |command_id, user| Input::Retry { command_id, user }),
            Action::Abandon(n) => self.operator(n, |command_id, user| Input::Abandon {
                command_id,
                user,
                reason: "tired of it".to_owned(),
            }),
            Action::Perform(n) | Action::PerformUnheard(n) => {
                if !world.pending.is_empty() {
                    let at = usize::from(n) % world.pending.len();
                    world.perform(at, matches!(action, Action::PerformUnheard(_)));
                }
            }
            Action::Advance(n) => {
                let host = world.hosts.get_mut(&of(n)).expect("one of them");
                let open = host.moving_tasks();
                if !open.is_empty() {
                    host.advance(open[usize::from(n / 4) % open.len()]);
                }
            }
            Action::Deliver(n) => {
                world.deliver(of(n));
            }
            Action::LoseFrame(n) => world.lose_frame(of(n)),
            Action::Connect(n) => world.connect(of(n)),
            Action::Disconnect(n) => world.disconnect(of(n)),
            Action::Wipe(n) => world.wipe(of(n)),
            Action::Restart(n) => world.restart(of(n)),
            Action::Copy(n) => world.hosts.get_mut(&of(n)).expect("one of them").copy(),
            Action::PutBack(n) => world.put_back(of(n), usize::from(n / 4)),
            Action::EndOrphan(n) => world
                .hosts
                .get_mut(&of(n))
                .expect("one of them")
                .end_orphan(n % 8 < 4),
            Action::Foreign(n) => {
                let operation = foreign(n);
                self.foreigners += 1;
                let id = TaskId::from_uuid(Uuid::from_u128(0x9000 + self.foreigners));
                world
                    .hosts
                    .get_mut(&of(n))
                    .expect("one of them")
                    .start_foreign(id, operation);
            }
            Action::Fate(n) => {
                let fate = match n / 4 % 7 {
                    0 => Fate::Fail,
                    1 => Fate::Recover(FaultCode::NoSpace),
                    2 => Fate::Recover(FaultCode::ImageInUse),
                    3 => Fate::Recover(FaultCode::ImageShared),
                    4 | 5 => Fate::Recover(FaultCode::Interrupted),
                    _ => Fate::Finish,
                };
                world.hosts.get_mut(&of(n)).expect("one of them").fates.push(fate);
            }
            Action::CallFault(n) => {
                let fault = [None, Some(FaultCode::IoError), Some(FaultCode::HostOwned)][usize::from(n) % 3];
                world.host_mut(HOSTS).call_fault = fault;
            }
            Action::SpendRetries(n) => {
                let tasks: Vec<TaskId> = world.engine.state.tasks().map(|task| task.id).collect();
                if !tasks.is_empty() {
                    let what = Attempt::Task(tasks[usize::from(n) % tasks.len()]);
                    let fault = common::Fault::new(FaultCode::QueueFull, "full");
                    let host_id = host_id(0);
                    world.step(Input::RetriesSpent { host_id, what, fault });
                }
            }
            // Inputs are microseconds apart.
            Action::WaitFor(n) => self.lock_wait = Some(Duration::from_micros(u64::from(n) % 512 + 1)),
            Action::LookAtWaits(n) => world.look_at_waits(i64::from(n % 256)),
            Action::SpendCall(n) => {
                let calls: Vec<CommandId> = world.engine.state.calls_to(of(n)).into_iter().collect();
                if !calls.is_empty() {
                    let what = Attempt::Call(calls[usize::from(n / 4) % calls.len()]);
                    let fault = common::Fault::new(FaultCode::HostAway, "no answer");
                    let host_id = of(n);
                    world.step(Input::RetriesSpent { host_id, what, fault });
                }
            }
            Action::FailClear(n) => {
                let tasks = world.engine.state.tasks();
                let cleared = tasks.filter(|task| task.async_state == AsyncTaskState::AttemptingEndAction);
                let cleared: Vec<TaskId> = cleared.map(|task| task.id).collect();
                if !cleared.is_empty() {
                    let task_id = cleared[usize::from(n) % cleared.len()];
                    let fault = common::Fault::new(FaultCode::HostAway, "a cut");
                    world.step(Input::ClearFailed { task_id, fault });
                }
            }
            Action::Again(n) => {
                if !world.said.is_empty() {
                    let recent = world.said.len().min(40);
                    let at = world.said.len() - 1 - usize::from(n) % recent;
                    let input = world.said[at].clone();
                    world.step(input);
                }
            }
            Action::Flow => {
                world.flow();
            }
            Action::Crash => world.crash(),
        }
    }

    /// From now on nothing fails any more, and an operator has everything that rests tried again.
    fn fair_end(&mut self) {
        self.world.host_mut(HOSTS).call_fault = None;
        self.lock_wait = None;
        // Streams have an end; only the next one shows what was lost at the end of this one.
        for n in 0..=HOSTS {
            self.world.disconnect(host_id(n));
        }
        for _ in 0..8 {
            for host in self.world.hosts.values_mut() {
                host.fates.clear();
                while !host.orphans.is_empty() {
                    host.end_orphan(true);
                }
            }
            self.world.settle();
            for n in 0x1001..=self.requests {
                let user = "op".to_owned();
                let command_id = command_id(n);
                let reply = self.world.step(Input::Retry { command_id, user }).reply;
                assert!(matches!(reply, Reply::Accepted { .. } | Reply::Refused(_)));
            }
        }
        self.world.settle();
    }

    fn assert_over(&self) {
        let state = &self.world.engine.state;
        for command in state.commands() {
            assert!(command.state.is_terminal(), "it never ends: {command:#?}");
        }
        assert_eq!(
            state.commands().count(),
            0,
            "something is never cleared: {:#?}",
            state.tasks().collect::<Vec<_>>()
        );
        assert!(state.lock_owners().is_empty());
        self.assert_inventory_is_true();
    }

    /// What the inventory has is on storage; what the engine made and did not give up is in the inventory.
    fn assert_inventory_is_true(&self) {
        let state = &self.world.engine.state;
        for vm in 0..16 {
            for disk in state.vm(vm_id(vm)).into_iter().flat_map(|vm| &vm.disk_ids) {
                assert!(state.disk(*disk).is_some(), "a VM names a disk that is not there");
            }
        }
        for disk in state.disks() {
            let id = disk.spec.disk_id;
            let sizes = self.world.hosts.values().filter_map(|host| host.size(id));
            let differs = sizes
                .into_iter()
                .any(|size| size != Size::of(disk.spec.capacity_bytes));
            assert!(
                !differs || self.world.leftovers.contains(&id),
                "it has another size: {disk:#?}"
            );
        }
        let given_up = self.world.engine.records.values().any(|record| {
            matches!(record, crate::Change::Command(c) if c.abandoned_by.is_some() || c.state == CommandState::Failed)
        });
        if !given_up {
            for host in self.world.hosts.values() {
                for disk in host.images.keys().filter(|disk| **disk < disk_id(FOREIGN_DISKS)) {
                    assert!(state.disk(*disk).is_some(), "{disk:?} is on storage only");
                }
            }
        }
    }
}

/// What somebody else has a host do, on images that are no disk's.
trait Foreign {
    fn of_somebody(n: u16) -> Self;
}

impl Foreign for CreateVolume {
    fn of_somebody(n: u16) -> Self {
        let volume = foreign_volume(n);
        Self {
            domain_id: volume.domain_id,
            image_id: volume.image_id,
            volume_id: volume.volume_id,
            capacity_bytes: 4096,
            format: VolumeFormat::Raw,
            allocation: Allocation::Sparse,
            description: String::new(),
        }
    }
}

impl Foreign for CopyVolume {
    fn of_somebody(n: u16) -> Self {
        Self {
            source: foreign_volume(n),
            target: foreign_volume(n % 4 + 1),
            format: VolumeFormat::Raw,
            allocation: Allocation::Sparse,
            description: String::new(),
            verify: false,
        }
    }
}

impl Foreign for DeleteImage {
    fn of_somebody(n: u16) -> Self {
        let volume = foreign_volume(n);
        Self {
            domain_id: volume.domain_id,
            image_id: volume.image_id,
        }
    }
}

impl Foreign for ExtendVolume {
    fn of_somebody(n: u16) -> Self {
        Self {
            volume: foreign_volume(n),
            capacity_bytes: 8192,
        }
    }
}

impl Foreign for Noop {
    fn of_somebody(_: u16) -> Self {
        Self
    }
}

macro_rules! foreign {
    ($($verb:ident,)*) => {
        /// Each operation that there is, in its turn.
        fn foreign(n: u16) -> Operation {
            let all = [$(Operation::from($verb::of_somebody(n)),)*];
            all[usize::from(n / 4) % all.len()].clone()
        }
    };
}

common::each_verb!(foreign);

/// Their disks are none of those that there may be.
const FOREIGN_DISKS: u128 = 0x900;

fn foreign_volume(n: u16) -> VolumeAddress {
    VolumeAddress {
        domain_id: domain_id(0),
        image_id: disk_id(FOREIGN_DISKS + u128::from(n % 4)).image(),
        volume_id: VolumeId::from_uuid(Uuid::from_u128(0xA000)),
    }
}

/// The kinds of commands that have succeeded, of those whose root is chosen.
fn succeeded(world: &World, is_chosen: impl Fn(CommandId) -> bool) -> impl Iterator<Item = CommandKind> {
    world
        .engine
        .records
        .values()
        .filter_map(move |record| match record {
            crate::Change::Command(c) if c.state == CommandState::Succeeded && is_chosen(c.root) => {
                Some(c.kind())
            }
            _ => None,
        })
}

/// The VM that a disk is attached to, by its number.
fn world_vm(world: &World, disk: u128) -> Option<u128> {
    let vm = world.engine.state.vm_of(disk_id(disk))?;
    Some(vm.id.as_uuid().as_u128() - vm_id(0).as_uuid().as_u128())
}

/// As many as are bearable at each run; `ENGINE_HISTORIES` asks for more.
fn config() -> ProptestConfig {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a test takes is up to whoever runs it"
    )]
    let wanted = std::env::var("ENGINE_HISTORIES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(48),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What has happened in all histories of a run.
struct Run {
    moved: Mutex<Moved>,
    /// The kinds of commands that somebody asked for and that have succeeded, with their parts.
    succeeded: Mutex<BTreeSet<CommandKind>>,
}

/// Every state and every legal move of the tables is reached: what no history meets, nobody has tried. What fewer than one
/// history in three meets by chance has a scene besides: no run needs luck.
#[test]
fn whatever_happens_everything_comes_to_a_true_end_by_every_legal_move() {
    let run = Run {
        moved: Mutex::default(),
        succeeded: Mutex::default(),
    };
    let mut runner = TestRunner::new(config());
    let outcome = runner.run(&prop::collection::vec(action(), 1..250), |actions| {
        let mut life = Life::new();
        for action in actions {
            life.act(action);
        }
        life.fair_end();
        life.assert_over();
        let mut moved = run.moved.lock().expect("nobody panics with it");
        moved.add_all(&life.world.counts.moved);
        let mut succeeded = run.succeeded.lock().expect("nobody panics with it");
        succeeded.extend(life.succeeded());
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\n{runner}");
    }
    let scenes = scenes::all();
    let mut kinds = run.succeeded.lock().expect("nobody panics with it");
    kinds.extend(scenes.iter().flat_map(|world| succeeded(world, |_| true)));
    let forgotten: Vec<_> = CommandKind::ALL
        .iter()
        .filter(|kind| !kinds.contains(kind))
        .collect();
    assert!(forgotten.is_empty(), "in no history {forgotten:?} succeeded");
    let mut moved = run.moved.lock().expect("nobody panics with it");
    for world in &scenes {
        moved.add_all(&world.counts.moved);
    }
    assert!(
        moved.missing().is_empty(),
        "never met: {:#?}\nof {moved:#?}",
        moved.missing()
    );
}

/// A late answer of a start that is over, and a frame of its stream: each made a task wait for ever on a host whose data
/// directory was put back.
#[test]
fn what_a_start_that_is_over_has_said_is_not_believed_of_the_present_one() {
    use Action::*;
    let answer = [
        Copy(21846),
        CreateDisk(11774),
        Flow,
        Advance(58650),
        Flow,
        Flow,
        Flow,
        CreateVm(48358),
        Flow,
        CreateVm(0),
        PutBack(37080),
        AddHost,
        CreateVm(0),
        Again(28989),
        CreateVm(0),
        CreateVm(0),
        Connect(4980),
        Deliver(49290),
        LoseFrame(0),
        CreateVm(0),
        CreateVm(0),
        CreateVm(0),
        CreateVm(0),
        Perform(0),
        Again(41969),
    ];
    let frame = [
        Copy(4035),
        CreateVm(27740),
        Flow,
        CreateVm(27132),
        Flow,
        Flow,
        CreateVm(0),
        CreateVm(0),
        CreateVm(0),
        Flow,
        CreateVm(0),
        CopyDisk(306),
        Flow,
        RemoveVm(0),
        Flow,
        RemoveDisk(0),
        Wipe(43630),
        CreateVm(217),
        CopyDisk(1698),
        Flow,
        Advance(50082),
        Flow,
        Flow,
        Perform(0),
        PutBack(5439),
        CreateVm(19127),
        Connect(26691),
        FailClear(0),
        AttachDisk(0),
        CopyDisk(7329),
        CopyDisk(1826),
        AddHost,
        Again(0),
        Flow,
        RemoveVm(0),
        Again(23414),
    ];
    for history in [&answer[..], &frame[..]] {
        let mut life = Life::new();
        for action in history {
            life.act(*action);
        }
        life.fair_end();
        life.assert_over();
    }
}

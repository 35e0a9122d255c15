//! The machine over a store: the running state equals the loaded one, whatever fails in between.

use std::sync::Arc;
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::{DiskId, DomainId, HostId, RequestId, StoreId, TaskId, VmId};
use common::operation::{Allocation, Operation, VolumeFormat};
use common::revision::{Revision, Start, Token};
use common::task::TaskState;
use doubles::failing::{FailingStore, When};
use doubles::memory::MemoryStore;
use engine_core::input::{Frame, HostFacts, HostTask};
use engine_core::model::{
    AddHost, AttachDisk, CommandRequest, CopyDiskRequest, CreateStorageDomain, CreateVmRequest, DetachDisk,
    NewDisk, RemoveDisk, ReportedState,
};
use engine_core::{HostCall, Limits};
use prost::Message as _;
use proto::encode;
use proto::engine::v1 as wire;
use runtime::coordinator::{self, Refusal};
use runtime::log::Log;
use store::Commit;
use uuid::Uuid;

use super::*;
use crate::expiry;
use crate::store::disk;
use crate::store::task::TASKS;

const ENGINE: EngineId = EngineId::from_uuid(Uuid::from_u128(0xE));
const HOST: HostId = HostId::from_uuid(Uuid::from_u128(0x1));
const HOST_STORE: StoreId = StoreId::from_uuid(Uuid::from_u128(0x5));
const DOMAIN: DomainId = DomainId::from_uuid(Uuid::from_u128(0x2));
const VM: VmId = VmId::from_uuid(Uuid::from_u128(0x3));
const DISK: DiskId = DiskId::from_uuid(Uuid::from_u128(0x4));

fn seed(store: &Arc<dyn Store>) -> Seed {
    Seed {
        engine_id: ENGINE,
        store: Arc::clone(store),
        limits: Limits::default(),
        figures: None,
        pulse: Pulse::default(),
    }
}

fn submission(number: u128, digest: u8, request: CommandRequest) -> Input {
    Input::Submit(Box::new(Submission {
        command_id: CommandId::from_uuid(Uuid::new_v4()),
        user: "alice".into(),
        rpc: "Test".into(),
        request_id: RequestId::from_uuid(Uuid::from_u128(number)),
        digest: vec![digest],
        correlation_id: "nightly".into(),
        request,
        lock_wait: None,
        validate_only: false,
        before: None,
    }))
}

fn add_host() -> CommandRequest {
    CommandRequest::AddHost(AddHost {
        host_id: HOST,
        name: "h1".into(),
        address: "h1:1".into(),
        identity: String::new(),
    })
}

fn create_domain() -> CommandRequest {
    CommandRequest::CreateStorageDomain(CreateStorageDomain {
        domain_id: DOMAIN,
        name: "d1".into(),
        host_id: HOST,
    })
}

fn create_vm(disks: usize) -> CommandRequest {
    CommandRequest::CreateVm(CreateVmRequest {
        vm_id: VM,
        name: "vm1".into(),
        description: String::new(),
        disks: vec![disk_ask(None); disks],
    })
}

fn disk_ask(disk_id: Option<DiskId>) -> NewDisk {
    NewDisk {
        disk_id,
        domain_id: DOMAIN,
        capacity_bytes: 4096,
        format: VolumeFormat::Raw,
        allocation: Allocation::Sparse,
        description: String::new(),
    }
}

fn connected() -> Input {
    Input::HostConnected {
        host_id: HOST,
        facts: HostFacts {
            store_id: HOST_STORE,
            engine_id: Some(ENGINE),
            start: Start(1),
            followed: None,
            forgotten: common::Words::default(),
            orphan_task_ids: Vec::new(),
            more_orphans: false,
        },
    }
}

fn observed(frame: Frame) -> Input {
    Input::Observed {
        host_id: HOST,
        store_id: HOST_STORE,
        start: Start(1),
        frame,
    }
}

fn token(revision: u64) -> Token {
    Token {
        store_id: HOST_STORE,
        start: Start(1),
        revision: Revision(revision),
    }
}

fn host_task(id: TaskId, operation: Operation, state: TaskState, sequence: u64) -> HostTask {
    HostTask {
        id,
        operation: Some(operation),
        state: ReportedState::Known(state),
        fault: None,
        sequence,
        cancelable: false,
        undo: common::Words::default(),
        undo_fault: None,
        waiting_for: common::Words::default(),
        engine_id: Some(ENGINE),
        removed: false,
        correlation_id: common::Label::default(),
        is_held: false,
        is_settled: false,
    }
}

/// An engine without a coordinator: each step is committed at once.
struct World {
    store: Arc<dyn Store>,
    engine: Engine,
    host_revision: u64,
}

impl World {
    fn over(store: Arc<dyn Store>) -> Self {
        let engine = Engine::load(&*store.reader().unwrap(), &seed(&store)).unwrap();
        let mut world = Self {
            store,
            engine,
            host_revision: 0,
        };
        world.step(Input::Recover);
        world
    }

    fn step(&mut self, input: Input) -> (Reply, Vec<engine_core::Effect>) {
        let taken = self.take(input);
        self.assert_kept();
        taken
    }

    fn take(&mut self, input: Input) -> (Reply, Vec<engine_core::Effect>) {
        let step = self.engine.step(input, Timestamp(1_000));
        let mut revision = self.store.reader().unwrap().revision();
        for change in &step.revisions {
            assert!(change.writes.len() <= 100, "{} writes", change.writes.len());
            revision = revision.next();
            let commit = Commit {
                revision,
                time: Timestamp(1_000),
                history: change.history.encode_to_vec(),
                writes: change.writes.clone(),
            };
            self.store.commit([commit].into()).unwrap();
        }
        let core = step.effects.into_iter().filter_map(|effect| match effect {
            Effect::Core(effect) => Some(effect),
            Effect::Held(_)
            | Effect::Ended(_)
            | Effect::Alert(_)
            | Effect::AtWork(_)
            | Effect::Renewed(_)
            | Effect::Stands(_)
            | Effect::Holds(_)
            | Effect::Waiting(_)
            | Effect::Anew => None,
        });
        (step.reply, core.collect())
    }

    /// The state that a start would load now is the state that is there.
    fn assert_kept(&self) {
        let loaded = Engine::load(&*self.store.reader().unwrap(), &seed(&self.store)).unwrap();
        let (now, then) = (&self.engine.state, &loaded.state);
        assert!(now.commands().eq(then.commands()));
        assert!(now.tasks().eq(then.tasks()));
        assert!(now.hosts().eq(then.hosts()));
        assert!(now.domains().eq(then.domains()));
        assert!(now.disks().eq(then.disks()));
        assert!(now.vms().eq(then.vms()));
        for key in self.engine.all_held() {
            assert_eq!(now.holding(&key), then.holding(&key));
        }
    }

    /// Adds a host and a domain.
    fn furnished() -> Self {
        Self::furnished_over(MemoryStore::new())
    }

    fn furnished_over(store: Arc<dyn Store>) -> Self {
        let mut world = Self::over(store);
        for (number, request, call) in [
            (1, add_host(), HostCall::Claim),
            (
                2,
                create_domain(),
                HostCall::CreateDomain {
                    domain_id: DOMAIN,
                    name: "d1".into(),
                },
            ),
        ] {
            let command_id = world.accepted(submission(number, 0, request));
            world.step(connected());
            world.step(Input::CallAnswered {
                command_id,
                call,
                result: Ok(()),
            });
        }
        world.step(connected());
        world.step(observed(Frame::Opened));
        world.step(observed(Frame::SnapshotDone { token: token(0) }));
        world
    }

    fn accepted(&mut self, input: Input) -> CommandId {
        match self.step(input).0 {
            Reply::Accepted { command_id, .. } => command_id,
            other => panic!("{other:?}"),
        }
    }

    /// Plays the host for all tasks until nothing is left to do there.
    fn play_out(&mut self) {
        loop {
            let open: Vec<_> = self.engine.state.tasks().map(|task| task.id).collect();
            if open.is_empty() {
                return;
            }
            for effect in self.step(connected()).1 {
                self.play(effect);
            }
        }
    }

    fn play(&mut self, effect: engine_core::Effect) {
        match effect {
            engine_core::Effect::StartTask {
                task_id, operation, ..
            } => {
                self.step(Input::StartAccepted {
                    task_id,
                    store_id: HOST_STORE,
                    start: Start(1),
                    over: None,
                });
                self.step(observed(Frame::Opened));
                for (sequence, state) in [TaskState::Init, TaskState::Running, TaskState::Finished]
                    .into_iter()
                    .enumerate()
                {
                    self.host_revision += 1;
                    let task = host_task(task_id, operation.clone(), state, sequence as u64 + 1);
                    self.step(observed(Frame::Changes {
                        token: Some(token(self.host_revision)),
                        time: Timestamp(2_000),
                        tasks: vec![task],
                    }));
                }
            }
            engine_core::Effect::ClearTask { task_id, .. } => {
                self.step(Input::Cleared {
                    task_id,
                    sequence: None,
                });
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_lived_is_what_is_loaded_after_every_step() {
    let mut world = World::furnished();
    let id = world.accepted(submission(3, 0, create_vm(3)));
    assert!(world.engine.state.command(id).is_some());
    world.play_out();
    assert!(world.engine.state.vm(VM).is_some());
}

#[test]
fn a_host_that_shows_a_cleared_task_again_changes_no_record_and_is_to_have_done_with_it() {
    let mut world = World::furnished();
    world.accepted(submission(3, 0, CommandRequest::CreateDisk(disk_ask(Some(DISK)))));
    let task = world.engine.state.tasks().next().cloned().unwrap();
    let operation = task.operation.clone().unwrap();
    world.play_out();
    let record = |world: &World| {
        TASKS
            .find(&*world.store.reader().unwrap(), task.id.as_bytes())
            .unwrap()
    };
    let before = record(&world);
    assert!(
        world.engine.state.task(task.id).is_none(),
        "it has left the working state"
    );
    for (state, sequence) in [(TaskState::Queued, 3), (TaskState::Recovered, 6)] {
        world.step(connected());
        world.step(observed(Frame::Opened));
        let shown = Frame::Snapshot(vec![host_task(task.id, operation.clone(), state, sequence)]);
        let (_, effects) = world.step(observed(shown));
        let asked = effects.iter().any(|effect| match effect {
            engine_core::Effect::AbortTask { task_id, .. } => {
                *task_id == task.id && state == TaskState::Queued
            }
            engine_core::Effect::ClearTask { task_id, .. } => {
                *task_id == task.id && state == TaskState::Recovered
            }
            _ => false,
        });
        assert!(asked, "{effects:?}");
        assert_eq!(record(&world), before);
    }
}

#[test]
fn a_disk_is_shown_with_the_vm_that_has_it_on_its_list_and_with_no_other() {
    let shown = |world: &World, id: DiskId| {
        let found = disk::find(&*world.store.reader().unwrap(), id.as_bytes());
        found.unwrap().map(|disk| disk.vm_id)
    };
    let mut world = World::furnished();
    world.accepted(submission(3, 0, create_vm(1)));
    world.accepted(submission(4, 0, CommandRequest::CreateDisk(disk_ask(Some(DISK)))));
    world.play_out();
    assert_eq!(shown(&world, DISK), Some(String::new()));
    let attach = CommandRequest::AttachDisk(AttachDisk {
        disk_id: DISK,
        vm_id: VM,
    });
    world.accepted(submission(5, 0, attach));
    assert_eq!(shown(&world, DISK), Some(VM.to_string()));
    let detach = CommandRequest::DetachDisk(DetachDisk {
        disk_id: DISK,
        vm_id: VM,
    });
    world.accepted(submission(6, 0, detach));
    assert_eq!(shown(&world, DISK), Some(String::new()));
    let made_with_it = world.engine.state.vm(VM).unwrap().disk_ids[0];
    assert_eq!(shown(&world, made_with_it), Some(VM.to_string()));
    let copy = CommandRequest::CopyDisk(CopyDiskRequest {
        source_disk_id: made_with_it,
        disk_id: None,
        domain_id: DOMAIN,
        format: VolumeFormat::Cow,
        allocation: Allocation::Sparse,
        description: String::new(),
        verify: false,
    });
    world.accepted(submission(7, 0, copy));
    world.accepted(submission(
        8,
        0,
        CommandRequest::RemoveDisk(RemoveDisk { disk_id: DISK }),
    ));
    world.play_out();
    assert_eq!(shown(&world, DISK), None);
    assert_eq!(world.engine.state.disks().count(), 2);
}

#[test]
fn a_tree_of_many_writes_is_cut_into_revisions() {
    let mut world = World::furnished();
    let before = world.store.reader().unwrap().revision();
    world.accepted(submission(3, 0, create_vm(64)));
    assert!(world.store.reader().unwrap().revision().0 > before.0 + 1);
    world.play_out();
}

#[test]
fn a_tree_that_is_done_with_is_read_at_no_start_and_its_request_is_known_still() {
    let mut world = World::furnished();
    let id = world.accepted(submission(3, 0, create_vm(1)));
    world.play_out();
    assert!(world.engine.state.command(id).is_none());
    let reader = world.store.reader().unwrap();
    assert_eq!(COMMANDS.live(&*reader, None, 10).unwrap().found.len(), 0);
    // As after a restart: the core has forgotten the request.
    world.engine = Engine::load(&*reader, &seed(&world.store)).unwrap();
    match world.step(submission(3, 0, create_vm(1))).0 {
        Reply::Accepted {
            command_id,
            repeat: true,
            ..
        } => assert_eq!(command_id, id),
        other => panic!("{other:?}"),
    }
    match world.step(submission(3, 1, create_vm(2))).0 {
        Reply::Refused(fault) => assert_eq!(fault.code, FaultCode::RequestIdReused),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_forgotten_command_leaves_no_record() {
    let mut world = World::furnished();
    let id = world.accepted(submission(3, 0, create_vm(2)));
    world.play_out();
    world.step(Input::Forget {
        command_ids: vec![id],
    });
    let reader = world.store.reader().unwrap();
    assert!(COMMANDS.get(&*reader, id.as_bytes()).unwrap().is_none());
    assert!(TASKS.newest(&*reader, None, 10).unwrap().found.is_empty());
    let since = Timestamp(i64::MIN);
    let ended = COMMANDS.ended_since(&*reader, since, None, 10).unwrap();
    // Those of the host and the domain.
    assert_eq!(ended.found.len(), 2);
    let history = world.store.history(Revision(0), 1_000).unwrap();
    let last = EngineHistory::decode(history.last().unwrap().history.as_slice()).unwrap();
    let commands: Vec<wire::Command> = encode::read(&last.commands).unwrap();
    assert!(commands.iter().all(|command| command.removed));
    assert_eq!((last.commands.len(), last.tasks.len()), (3, 2));
}

/// An ended command stays if its host has not yet heard that it may forget the command's tasks.
#[tokio::test]
async fn many_that_cannot_be_forgotten_yet_hide_none_that_can_and_are_not_tried_for_ever() {
    let mut world = World::furnished();
    // More than one piece, however the expiry cuts them.
    for n in 0..150 {
        world.take(submission(10 + n, 0, CommandRequest::CreateDisk(disk_ask(None))));
    }
    for effect in world.take(connected()).1 {
        if let engine_core::Effect::StartTask {
            task_id, operation, ..
        } = effect
        {
            world.take(Input::StartAccepted {
                task_id,
                store_id: HOST_STORE,
                start: Start(1),
                over: None,
            });
            world.take(observed(Frame::Opened));
            let finished = host_task(task_id, operation, TaskState::Finished, 1);
            world.host_revision += 1;
            world.take(observed(Frame::Changes {
                token: Some(token(world.host_revision)),
                time: Timestamp(2_000),
                tasks: vec![finished],
            }));
        }
    }
    assert_eq!(world.engine.state.tasks().count(), 150, "none is cleared");
    let last = world.accepted(submission(3, 0, create_vm(0)));
    let open = world.accepted(submission(4, 0, CommandRequest::CreateDisk(disk_ask(None))));
    let log = Log::new(Arc::clone(&world.store)).unwrap();
    let (store, seed) = (Arc::clone(&world.store), seed(&world.store));
    let handle = coordinator::spawn::<Engine>(store, seed, Arc::clone(&log), |_| {}).unwrap();
    let ended_at = Timestamp(1_000);
    for (before, kept) in [(ended_at, true), (Timestamp(1_001), false)] {
        let young = before..=Timestamp(i64::MAX);
        let forget = expiry::forget(&handle, &log, &young);
        let in_time = tokio::time::timeout(Duration::from_secs(20), forget).await;
        in_time.expect("it comes to its end").unwrap();
        let reader = world.store.reader().unwrap();
        let is_there = |id: CommandId| COMMANDS.get(&*reader, id.as_bytes()).unwrap().is_some();
        assert_eq!(is_there(last), kept);
        assert!(is_there(open), "it has not ended");
        let tasks = TASKS.newest(&*reader, None, 1_000).unwrap().found;
        assert_eq!(tasks.len(), 151, "their tasks are to be cleared");
    }
    handle.stop().await;
}

#[test]
fn a_frame_of_a_connection_from_before_a_reload_is_dropped() {
    let mut world = World::furnished();
    let store = Arc::clone(&world.store);
    world.engine = Engine::load(&*store.reader().unwrap(), &seed(&store)).unwrap();
    world.step(Input::Recover);
    let before = store.reader().unwrap().revision();
    world.step(observed(Frame::Changes {
        token: Some(token(9)),
        time: Timestamp(0),
        tasks: Vec::new(),
    }));
    assert_eq!(store.reader().unwrap().revision(), before);
    let host = world.engine.state.host(HOST).unwrap();
    assert_eq!(host.cursor, Some(token(0)));
}

#[tokio::test]
async fn a_commit_that_fails_is_answered_so_and_the_repeat_is_taken() {
    for when in [When::Before, When::After] {
        let failing = FailingStore::wrap(MemoryStore::new());
        let store: Arc<dyn Store> = failing.clone();
        let log = Log::new(Arc::clone(&store)).unwrap();
        let handle = coordinator::spawn::<Engine>(Arc::clone(&store), seed(&store), log, |_| {}).unwrap();
        failing.fail_commit(1, when);
        let refused = handle.call(submission(1, 0, add_host())).await;
        assert_eq!(refused.unwrap_err(), Refusal::StoreUnavailable);
        let answer = loop {
            match handle.call(submission(1, 0, add_host())).await {
                Ok(answer) => break answer,
                Err(Refusal::StoreUnavailable | Refusal::StoreLost(_)) => {
                    tokio::time::sleep(Duration::from_millis(5)).await
                }
                Err(Refusal::Stopping) => panic!("it stopped"),
            }
        };
        match answer.reply {
            Reply::Accepted { repeat, .. } => assert_eq!(repeat, when == When::After, "{when:?}"),
            other => panic!("{other:?}"),
        }
        handle.stop().await;
    }
}

/// A command with many disks, each with its own id and a description of its own: the number of bytes that the client
/// sends, and the engine's request.
fn long_request(disks: u128) -> (usize, CommandRequest) {
    let mut message = wire::CreateVmRequest {
        request_id: Uuid::new_v4().to_string(),
        vm_id: VM.to_string(),
        name: "vm1".into(),
        ..wire::CreateVmRequest::default()
    };
    let mut request = create_vm(0);
    let CommandRequest::CreateVm(asked) = &mut request else {
        unreachable!("it is one")
    };
    for n in 0..disks {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes());
        let mut disk = disk_ask(Some(DiskId::from_uuid(id)));
        disk.description = words(n);
        message.disks.push(wire::DiskSpec {
            disk_id: disk.disk_id.map(|id| id.to_string()).unwrap_or_default(),
            domain_id: disk.domain_id.to_string(),
            capacity_bytes: 4096,
            format: proto::convert::format_to_wire(disk.format).into(),
            allocation: proto::convert::allocation_to_wire(disk.allocation).into(),
            description: disk.description.clone(),
        });
        asked.disks.push(disk);
    }
    (message.encoded_len(), request)
}

/// 180 random letters.
fn words(n: u128) -> String {
    let letters = (0_u128..)
        .flat_map(|part| Uuid::new_v5(&Uuid::NAMESPACE_URL, &(n << 32 | part).to_be_bytes()).into_bytes());
    letters
        .map(|byte| char::from(b'0' + byte % 64))
        .take(180)
        .collect()
}

/// The bytes of all rows in a data directory that nobody has open.
fn rows(dir: &std::path::Path) -> (u64, u64) {
    let report = store::disk::check(dir, crate::service::OWNER).unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
    (report.record_bytes, report.history_bytes)
}

#[test]
fn what_somebody_should_look_at_is_in_the_log() {
    let mut world = World::furnished();
    let input = Input::HostRefused {
        host_id: HOST,
        fault: Fault::new(FaultCode::HostOwned, "another engine has it"),
        is_proven: false,
    };
    let step = world.engine.step(input, Timestamp(1_000));
    let told = step.effects.iter().find_map(|effect| match effect {
        Effect::Alert(event) => Some(event.message.to_string()),
        _ => None,
    });
    assert!(told.is_some_and(|told| told.contains("another engine has it")));
}

#[test]
fn another_incarnation_is_recorded_with_the_proof_that_it_is_taken_for() {
    let store: Arc<dyn Store> = MemoryStore::new();
    let begun = runtime::ages::Stamp {
        time: Timestamp(0),
        writes: None,
    };
    let first = engine::begin(&store, begun, None).unwrap();
    let mut world = World::furnished_over(store);
    let refused = |is_proven| Input::HostRefused {
        host_id: HOST,
        fault: Fault::new(FaultCode::EngineFenced, "another life has it"),
        is_proven,
    };
    let present = |world: &World| engine::present(&*world.store.reader().unwrap()).unwrap();
    world.step(refused(false));
    assert_eq!(present(&world), Some(first.clone()), "for a word none is taken");
    let before = world.store.reader().unwrap().revision();
    let (_, effects) = world.step(refused(true));
    let next = present(&world).unwrap();
    assert_eq!(next.line.last(), Some(&first.incarnation));
    assert_eq!(
        world.store.reader().unwrap().revision(),
        before.next(),
        "in one commit"
    );
    assert!(matches!(
        &effects[..],
        [engine_core::Effect::Follow { host_id: HOST, .. }]
    ));
    // After the working state is read anew, this start is still the incarnation that it became.
    let again = Engine::load(&*world.store.reader().unwrap(), &seed(&world.store)).unwrap();
    assert_eq!(again.life, Some(next));
}

#[test]
fn what_a_request_leaves_on_disk_is_less_than_four_times_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Store> {
        let options = store::disk::Options {
            family_of: crate::store::family::family_of,
            ..store::disk::Options::of(crate::service::OWNER)
        };
        store::disk::DiskStore::open(dir.path(), options).unwrap()
    };
    drop(World::furnished_over(open()));
    let before = rows(dir.path());
    let mut world = World::over(open());
    world.step(Input::HostAway { host_id: HOST });
    let (bytes, request) = long_request(64);
    let id = world.accepted(submission(9, 0, request));
    drop(world);
    let after = rows(dir.path());
    let (records, history) = (after.0 - before.0, after.1 - before.1);
    println!("{bytes} bytes of request, {records} of records, {history} of history");
    assert!(bytes > 17_000, "{bytes}");
    assert!(records + history < 4 * bytes as u64, "{records}, {history}");
    // The recorded command equals the request, and disappears completely with the command; only its disks and their
    // VM are left.
    let mut world = World::over(open());
    assert_eq!(world.engine.state.tasks().count(), 64);
    world.play_out();
    let vm = world.engine.state.vm(VM).unwrap();
    for (n, id) in (0..).zip(vm.disk_ids.clone()) {
        assert_eq!(world.engine.state.disk(id).unwrap().spec.description, words(n));
    }
    world.take(Input::Forget {
        command_ids: vec![id],
    });
    let last = world.store.reader().unwrap().revision();
    world.store.trim(last).unwrap();
    drop(world);
    let (left, history) = rows(dir.path());
    println!("{left} bytes are left, {history} of history");
    assert!(left - before.0 < 2 * bytes as u64, "{left}");
}

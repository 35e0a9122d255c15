//! Arbitrary values of the core's model, for round trips through the records.

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::{CommandId, DiskId, DomainId, HostId, RequestId, StoreId, TaskId, VmId, VolumeId};
use common::lock::Mode;
use common::operation::{
    Allocation, CopyVolume, CreateVolume, DeleteImage, ExtendVolume, Noop, Operation, VolumeAddress,
    VolumeFormat,
};
use common::revision::{Revision, Start, Token};
use common::task::TaskState;
use common::time::Timestamp;
use common::words::Words;
use engine_core::model::{
    AsyncTask, AsyncTaskState, Awaited, Blocker, Blockers, Command, CommandKind, CommandState, Disk,
    DiskSpec, Domain, EntityKey, Holder, Host, Observation, OtherLife, Outcome, Place, Presence, Purpose,
    ReportedState, RequestKey, Settled, TaskStep, Vm, WaitingFor,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;
use uuid::Uuid;

use crate::verbs;

/// Any UUID except the nil one.
pub(crate) fn uuid() -> impl Strategy<Value = Uuid> {
    (1..=u128::MAX).prop_map(Uuid::from_u128)
}

macro_rules! ids {
    ($($name:ident: $id:ident;)*) => {$(
        pub(crate) fn $name() -> impl Strategy<Value = $id> {
            uuid().prop_map($id::from_uuid)
        }
    )*};
}

ids! {
    command_id: CommandId;
    disk_id: DiskId;
    domain_id: DomainId;
    host_id: HostId;
    request_id: RequestId;
    store_id: StoreId;
    task_id: TaskId;
    vm_id: VmId;
    volume_id: VolumeId;
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 äß€-]{0,12}"
}

fn words() -> impl Strategy<Value = Words> {
    text().prop_map(Words::from)
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9ä-]{1,12}"
}

/// To the microsecond, as times are kept.
fn time() -> impl Strategy<Value = Timestamp> {
    (-1_000_000_000_000_000_i64..4_000_000_000_000_000).prop_map(Timestamp)
}

fn fault() -> impl Strategy<Value = Fault> {
    let known = prop::sample::select(FaultCode::ALL)
        .prop_filter("is never sent", |code| *code != FaultCode::Unrecognized)
        .prop_map(|code| code.as_str().to_owned());
    let code = prop_oneof![known, Just("MOON_PHASE_WRONG".to_owned())];
    (code, text(), text()).prop_map(|(code, subject, message)| Fault::from_code_text(&code, subject, message))
}

fn entity() -> impl Strategy<Value = EntityKey> {
    prop_oneof![
        host_id().prop_map(EntityKey::Host),
        domain_id().prop_map(EntityKey::Domain),
        disk_id().prop_map(EntityKey::Disk),
        vm_id().prop_map(EntityKey::Vm),
        name().prop_map(EntityKey::VmName),
    ]
}

fn format() -> impl Strategy<Value = VolumeFormat> {
    prop_oneof![Just(VolumeFormat::Raw), Just(VolumeFormat::Cow)]
}

fn allocation() -> impl Strategy<Value = Allocation> {
    prop_oneof![Just(Allocation::Sparse), Just(Allocation::Preallocated)]
}

pub(crate) fn capacity() -> impl Strategy<Value = u64> {
    (1_u64..=2_048).prop_map(|blocks| blocks * 4_096)
}

pub(crate) fn spec() -> impl Strategy<Value = DiskSpec> {
    (disk_id(), domain_id(), capacity(), format(), allocation(), text()).prop_map(
        |(disk_id, domain_id, capacity_bytes, format, allocation, description)| DiskSpec {
            disk_id,
            domain_id,
            capacity_bytes,
            format,
            allocation,
            description,
        },
    )
}

pub(crate) fn address() -> impl Strategy<Value = VolumeAddress> {
    (domain_id(), disk_id(), volume_id()).prop_map(|(domain_id, disk, volume_id)| VolumeAddress {
        domain_id,
        image_id: disk.image(),
        volume_id,
    })
}

fn command_state() -> impl Strategy<Value = CommandState> {
    prop::sample::select(vec![
        CommandState::Pending,
        CommandState::Active,
        CommandState::Compensating,
        CommandState::Succeeded,
        CommandState::Failed,
        CommandState::Cancelled,
        CommandState::NeedsAttention,
    ])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let kinds = prop::sample::select(CommandKind::ALL);
    (
        command_id(),
        kinds,
        entity(),
        command_state(),
        option::of(fault()),
    )
        .prop_map(|(command, kind, entity, state, fault)| Outcome {
            command,
            kind,
            entity,
            state,
            fault,
        })
}

fn waiting_for() -> impl Strategy<Value = WaitingFor> {
    let what = prop_oneof![
        host_id().prop_map(Awaited::Host),
        task_id().prop_map(Awaited::Task),
        command_id().prop_map(Awaited::Command),
        fault().prop_map(Awaited::Attention),
        blockers().prop_map(Awaited::Locks),
    ];
    (what, words(), time()).prop_map(|(what, note, since)| WaitingFor { what, note, since })
}

fn blockers() -> impl Strategy<Value = Blockers> {
    let command = (command_id(), text(), time()).prop_map(|(command_id, user, since)| Holder::Command {
        command_id,
        user,
        since,
    });
    let foreign = (task_id(), host_id(), time()).prop_map(|(task_id, host_id, since)| Holder::ForeignTask {
        task_id,
        host_id,
        since,
    });
    let blocker = (lock(), prop_oneof![command, foreign], any::<bool>());
    let blocker = blocker.prop_map(|((entity, mode), holder, waits)| Blocker {
        entity,
        holder,
        mode,
        waits,
    });
    (vec(blocker, 0..3), 0..1_000_usize).prop_map(|(by, more)| Blockers { by, more })
}

fn request() -> impl Strategy<Value = RequestKey> {
    (name(), request_id(), vec(any::<u8>(), 0..20)).prop_map(|(rpc, request_id, digest)| RequestKey {
        rpc,
        request_id,
        digest,
    })
}

fn lock() -> impl Strategy<Value = (EntityKey, Mode)> {
    (entity(), prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)])
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let identity = (
        command_id(),
        any::<u64>(),
        verbs::any(),
        option::of(command_id()),
        command_id(),
        vec(command_id(), 0..3),
        vec(task_id(), 0..3),
    );
    let course = (
        command_state(),
        any::<bool>(),
        any::<bool>(),
        option::of(fault()),
        vec(outcome(), 0..2),
        vec(entity(), 0..2),
        option::of(waiting_for()),
    );
    let words = (
        text(),
        option::of(request()),
        text(),
        time(),
        option::of(time()),
        any::<u64>(),
        any::<u32>(),
        option::of(name()),
    );
    let lock_wait = option::of((0..86_400_u64).prop_map(Duration::from_secs));
    let waits = (vec(lock(), 0..3), lock_wait);
    (identity, course, words, waits, any::<u64>()).prop_map(
        |(identity, course, words, (locks, lock_wait), tree_sequence)| {
            let (id, seq, parameters, parent, root, children, tasks) = identity;
            let (state, cancel_requested, call_sent, fault, outcomes, left_behind, waiting_for) = course;
            let (user, request, correlation_id, created, ended, sequence, attempt, abandoned_by) = words;
            Command {
                id,
                seq,
                parameters,
                parent,
                root,
                children,
                tasks,
                state,
                cancel_requested,
                call_sent,
                fault,
                outcomes,
                left_behind,
                waiting_for,
                user,
                request,
                correlation_id,
                created,
                ended,
                sequence,
                attempt,
                abandoned_by,
                lock_wait,
                locks,
                tree_sequence,
            }
        },
    )
}

/// A verb, of which any is kept.
trait AnyVerb: Sized {
    fn any() -> BoxedStrategy<Self>;
}

impl AnyVerb for CreateVolume {
    fn any() -> BoxedStrategy<Self> {
        let parts = (spec(), volume_id());
        let verb = parts.prop_map(|(spec, volume_id)| Self {
            domain_id: spec.domain_id,
            image_id: spec.disk_id.image(),
            volume_id,
            capacity_bytes: spec.capacity_bytes,
            format: spec.format,
            allocation: spec.allocation,
            description: spec.description,
        });
        verb.boxed()
    }
}

impl AnyVerb for CopyVolume {
    fn any() -> BoxedStrategy<Self> {
        let parts = (address(), address(), spec(), any::<bool>());
        let verb = parts.prop_map(|(source, target, spec, verify)| Self {
            source,
            target,
            format: spec.format,
            allocation: spec.allocation,
            description: spec.description,
            verify,
        });
        verb.boxed()
    }
}

impl AnyVerb for DeleteImage {
    fn any() -> BoxedStrategy<Self> {
        let verb = (domain_id(), disk_id()).prop_map(|(domain_id, disk)| Self {
            domain_id,
            image_id: disk.image(),
        });
        verb.boxed()
    }
}

impl AnyVerb for ExtendVolume {
    fn any() -> BoxedStrategy<Self> {
        let verb = (address(), capacity()).prop_map(|(volume, capacity_bytes)| Self {
            volume,
            capacity_bytes,
        });
        verb.boxed()
    }
}

impl AnyVerb for Noop {
    fn any() -> BoxedStrategy<Self> {
        Just(Self).boxed()
    }
}

macro_rules! any_verb {
    ($($verb:ident,)*) => {
        Union::new([$($verb::any().prop_map(Operation::from).boxed(),)*])
    };
}

fn operation() -> impl Strategy<Value = Operation> {
    common::each_verb!(any_verb)
}

fn reported() -> impl Strategy<Value = ReportedState> {
    prop_oneof![
        prop::sample::select(TaskState::ALL.to_vec()).prop_map(ReportedState::Known),
        (100..i32::MAX).prop_map(ReportedState::Unknown),
    ]
}

pub(crate) fn task() -> impl Strategy<Value = AsyncTask> {
    let identity = (
        task_id(),
        any::<u64>(),
        host_id(),
        prop::sample::select(vec![Purpose::Do, Purpose::Undo, Purpose::Foreign]),
        option::of(operation()),
        option::of(command_id()),
        option::of(command_id()),
    );
    let course = (
        prop::sample::select(vec![
            AsyncTaskState::Initializing,
            AsyncTaskState::Watching,
            AsyncTaskState::Ended,
            AsyncTaskState::AttemptingEndAction,
            AsyncTaskState::ClearFailed,
            AsyncTaskState::Cleared,
        ]),
        option::of(reported()),
        option::of(prop::sample::select(vec![
            Settled::Refused,
            Settled::Done,
            Settled::Unclear,
        ])),
        option::of(fault()),
        any::<(u64, u64, bool, bool)>(),
        text(),
        option::of((any::<u32>(), any::<u32>(), any::<u32>())),
    );
    let rest = (
        option::of(store_id()),
        any::<(bool, bool, Option<u64>, bool)>(),
        text(),
        text(),
        time(),
        option::of(time()),
        option::of(time()),
        option::of(waiting_for()),
        (any::<u64>(), option::of(fault())),
    );
    (identity, course, rest).prop_map(|(identity, course, rest)| {
        let (id, seq, host_id, purpose, operation, command, root) = identity;
        let (async_state, reported, settled, fault, counts, undo, place) = course;
        let (host_sequence, sequence, resynced, cancelable) = counts;
        let (
            store_id,
            (abort_wanted, begun_before, start, outlived_a_start),
            user,
            correlation_id,
            created,
            ended,
            host_commit_time,
            waiting_for,
            (tree, undo_fault),
        ) = rest;
        AsyncTask {
            id,
            seq,
            host_id,
            purpose,
            operation,
            async_state,
            reported,
            settled,
            fault,
            host_sequence,
            sequence,
            resynced,
            cancelable,
            undo: undo.into(),
            undo_fault,
            command,
            root,
            place: place.map(|(part, attempt, turn)| Place { part, attempt, turn }),
            step: command
                .zip(root)
                .map(|(command, root)| TaskStep::of(command, root, id)),
            store_id,
            start: start.map(Start),
            outlived_a_start,
            abort_wanted,
            begun_before,
            user,
            correlation_id,
            created,
            ended,
            host_commit_time,
            waiting_for,
            tree_sequence: tree,
        }
    })
}

pub(crate) fn host() -> impl Strategy<Value = Host> {
    let cursor = (store_id(), any::<u64>(), any::<u64>()).prop_map(|(store_id, start, revision)| Token {
        store_id,
        start: Start(start),
        revision: Revision(revision),
    });
    (
        host_id(),
        name(),
        (text(), text()),
        option::of(store_id()),
        option::of(any::<u64>()),
        option::of(cursor),
        any::<bool>(),
        option::of((fault(), any::<bool>())),
        option::of(fault()),
    )
        .prop_map(
            |(id, name, (address, identity), store_id, start, cursor, has_risen, other_life, other_owner)| {
                Host {
                    id,
                    name,
                    address,
                    identity,
                    store_id,
                    start: start.map(Start),
                    cursor,
                    has_risen,
                    other_life: other_life.map(|(fault, is_proven)| OtherLife { fault, is_proven }),
                    other_owner,
                }
            },
        )
}

pub(crate) fn domain() -> impl Strategy<Value = Domain> {
    (domain_id(), name(), host_id()).prop_map(|(id, name, host_id)| Domain { id, name, host_id })
}

pub(crate) fn disk() -> impl Strategy<Value = Disk> {
    let presence = prop::sample::select(vec![
        Presence::Unknown,
        Presence::Whole,
        Presence::Partial,
        Presence::Absent,
    ]);
    let observation =
        (presence, time(), words()).prop_map(|(presence, time, note)| Observation { presence, time, note });
    (spec(), option::of(vm_id()), volume_id(), option::of(observation)).prop_map(
        |(spec, last_vm, volume_id, observation)| Disk {
            spec,
            last_vm,
            volume_id,
            observation,
        },
    )
}

pub(crate) fn vm() -> impl Strategy<Value = Vm> {
    (vm_id(), name(), text(), vec(disk_id(), 0..4), time()).prop_map(
        |(id, name, description, disk_ids, created)| Vm {
            id,
            name,
            description,
            disk_ids,
            created,
        },
    )
}

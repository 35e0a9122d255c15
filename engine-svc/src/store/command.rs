//! Commands.
//!
//! | table | key | value |
//! |---|---|---|
//! | `command` | the command's sequence | `CommandRecord` |
//! | `command/id` | its id | its sequence |
//! | `command/ended` | the time of its end, its sequence | nothing |
//! | `command/live` | the sequence of a root | nothing: its tree is part of the working state |
//! | `command/request` | the request's id, RPC, user | the id of the root that it was accepted as |

use common::id::HostId;
use engine_core::model::{
    AsyncTask, Awaited, Blocker, Blockers, Command, CommandState, Outcome, RequestKey, WaitingFor,
};
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::waiting_for::What;
use proto::store::v1::CommandRecord;
use store::{Reader, StoreError, Table, Write};

use super::codec::{self, CodecError};
use super::ledger::Ledger;
use super::scan::write;
use super::task;
use crate::verbs;

/// The tables of commands.
pub(crate) const COMMANDS: Ledger<CommandRecord> = Ledger::new(
    Table("command"),
    Table("command/id"),
    Table("command/live"),
    Table("command/ended"),
);

/// The number of records that are read at a time.
const PIECE: usize = 1_000;

/// The command that each request was accepted as.
pub(crate) const REQUESTS: Table = Table("command/request");

/// Whether a command is not over.
pub(crate) fn is_open(command: &wire::Command) -> bool {
    command.end_time.is_none()
}

/// The key of a request.
pub(crate) fn request_key(user: &str, rpc: &str, request_id: &[u8; 16]) -> Vec<u8> {
    let mut key = request_id.to_vec();
    key.extend_from_slice(rpc.as_bytes());
    // No RPC's name contains this byte.
    key.push(0);
    key.extend_from_slice(user.as_bytes());
    key
}

/// The write that records an accepted request.
pub(super) fn request(user: &str, request: &RequestKey, command: &Command) -> Write {
    let key = request_key(user, &request.rpc, request.request_id.as_bytes());
    write(REQUESTS, key, Some(command.id.as_bytes().to_vec()))
}

/// A command as it is shown.
pub(crate) fn show(command: &Command) -> wire::Command {
    wire::Command {
        command_id: command.id.to_string(),
        kind: verbs::kind(command.kind()).into(),
        parameters: Some(verbs::encode(&command.parameters)),
        parent_command_id: codec::text(command.parent),
        root_command_id: command.root.to_string(),
        child_command_ids: command.children.iter().map(ToString::to_string).collect(),
        task_ids: command.tasks.iter().map(ToString::to_string).collect(),
        state: state(command.state).into(),
        cancel_requested: command.cancel_requested,
        fault: command.fault.as_ref().map(convert::fault_to_wire),
        outcomes: command.outcomes.iter().map(outcome).collect(),
        left_behind: command.left_behind.iter().map(codec::entity).collect(),
        waiting_for: command.waiting_for.as_ref().map(waiting_for),
        user: command.user.clone(),
        request_id: codec::text(command.request.as_ref().map(|request| request.request_id)),
        correlation_id: command.correlation_id.clone(),
        create_time: codec::time(command.created),
        end_time: command.ended.map(convert::timestamp),
        sequence: command.sequence,
        attempt: command.attempt,
        abandoned_by: command.abandoned_by.clone().unwrap_or_default(),
        removed: false,
        cancelable: false,
        undo: String::new(),
        plan: None,
        lock_wait: command.lock_wait.map(codec::duration),
    }
}

/// The plan of `command` with everything below it: nothing is recorded, so nobody can ask about it.
pub(crate) fn preview(command: &Command, children: &[Command], tasks: &[AsyncTask]) -> wire::Command {
    let parts = children.iter().filter(|part| part.parent == Some(command.id));
    let own = tasks.iter().filter(|task| task.command == Some(command.id));
    let plan = wire::CommandPlan {
        parts: parts.map(|part| preview(part, children, tasks)).collect(),
        tasks: own.map(|task| task::preview(task, command)).collect(),
    };
    wire::Command {
        command_id: String::new(),
        parent_command_id: String::new(),
        root_command_id: String::new(),
        child_command_ids: Vec::new(),
        task_ids: Vec::new(),
        state: wire::CommandState::Unspecified.into(),
        waiting_for: command.waiting_for.as_ref().and_then(would_wait_for),
        create_time: None,
        sequence: 0,
        plan: Some(plan),
        ..show(command)
    }
}

/// Whom a command that is only planned would wait for. Its tasks and parts, which it would wait for later, have no
/// ids.
fn would_wait_for(waiting: &WaitingFor) -> Option<wire::WaitingFor> {
    match waiting.what {
        Awaited::Locks(_) => Some(wire::WaitingFor {
            since: None,
            ..waiting_for(waiting)
        }),
        Awaited::Host(_) | Awaited::Task(_) | Awaited::Command(_) | Awaited::Attention(_) => None,
    }
}

/// The record of a command, without its shown part.
pub(crate) fn record(command: &Command) -> CommandRecord {
    let request = command.request.as_ref();
    CommandRecord {
        command: None,
        locks: command.locks.iter().map(codec::lock).collect(),
        tree_sequence: command.tree_sequence,
        request_digest: request.map(|request| request.digest.clone()).unwrap_or_default(),
        rpc: request.map(|request| request.rpc.clone()).unwrap_or_default(),
        call_sent: command.call_sent,
    }
}

/// Reads a record back. `seq` is its key.
///
/// # Errors
/// [`CodecError`] for a record that [`record`] did not write.
pub(crate) fn read(seq: u64, record: CommandRecord) -> Result<Command, CodecError> {
    let shown = codec::required("command", record.command)?;
    let request = match codec::optional_id("request_id", &shown.request_id)? {
        Some(request_id) => Some(RequestKey {
            rpc: record.rpc,
            request_id,
            digest: record.request_digest,
        }),
        None => None,
    };
    Ok(Command {
        id: codec::id("command_id", &shown.command_id)?,
        seq,
        parameters: verbs::decode(shown.parameters)?,
        parent: codec::optional_id("parent_command_id", &shown.parent_command_id)?,
        root: codec::id("root_command_id", &shown.root_command_id)?,
        children: codec::ids("child_command_ids", &shown.child_command_ids)?,
        tasks: codec::ids("task_ids", &shown.task_ids)?,
        state: read_state(shown.state)?,
        cancel_requested: shown.cancel_requested,
        call_sent: record.call_sent,
        fault: shown.fault.as_ref().map(convert::fault_from_wire),
        outcomes: shown
            .outcomes
            .iter()
            .map(read_outcome)
            .collect::<Result<_, _>>()?,
        left_behind: shown
            .left_behind
            .iter()
            .map(codec::read_entity)
            .collect::<Result<_, _>>()?,
        waiting_for: shown.waiting_for.map(read_waiting_for).transpose()?,
        user: shown.user,
        request,
        correlation_id: shown.correlation_id,
        created: codec::read_time("create_time", shown.create_time.as_ref())?,
        ended: shown.end_time.as_ref().map(convert::from_timestamp),
        sequence: shown.sequence,
        attempt: shown.attempt,
        abandoned_by: Some(shown.abandoned_by).filter(|user| !user.is_empty()),
        lock_wait: shown
            .lock_wait
            .map(|wait| codec::read_duration("lock_wait", wait))
            .transpose()?,
        locks: record
            .locks
            .iter()
            .map(codec::read_lock)
            .collect::<Result<_, _>>()?,
        tree_sequence: record.tree_sequence,
    })
}

/// A command's state as it is shown.
pub(crate) const fn state(state: CommandState) -> wire::CommandState {
    match state {
        CommandState::Pending => wire::CommandState::Pending,
        CommandState::Active => wire::CommandState::Active,
        CommandState::Compensating => wire::CommandState::Compensating,
        CommandState::Succeeded => wire::CommandState::Succeeded,
        CommandState::Failed => wire::CommandState::Failed,
        CommandState::Cancelled => wire::CommandState::Cancelled,
        CommandState::NeedsAttention => wire::CommandState::NeedsAttention,
    }
}

fn read_state(value: i32) -> Result<CommandState, CodecError> {
    Ok(match wire::CommandState::try_from(value) {
        Ok(wire::CommandState::Pending) => CommandState::Pending,
        Ok(wire::CommandState::Active) => CommandState::Active,
        Ok(wire::CommandState::Compensating) => CommandState::Compensating,
        Ok(wire::CommandState::Succeeded) => CommandState::Succeeded,
        Ok(wire::CommandState::Failed) => CommandState::Failed,
        Ok(wire::CommandState::Cancelled) => CommandState::Cancelled,
        Ok(wire::CommandState::NeedsAttention) => CommandState::NeedsAttention,
        Ok(wire::CommandState::Unspecified) | Err(_) => return Err(codec::unknown("state", value)),
    })
}

/// What a command or a task waits for, as it is shown.
pub(super) fn waiting_for(waiting: &WaitingFor) -> wire::WaitingFor {
    let what = match &waiting.what {
        Awaited::Host(id) => What::HostId(id.to_string()),
        Awaited::Task(id) => What::TaskId(id.to_string()),
        Awaited::Command(id) => What::CommandId(id.to_string()),
        Awaited::Locks(blockers) => What::Locks(awaited_locks(blockers)),
        Awaited::Attention(fault) => What::Attention(convert::fault_to_wire(fault)),
    };
    wire::WaitingFor {
        what: Some(what),
        note: waiting.note.to_string(),
        since: codec::time(waiting.since),
    }
}

pub(super) fn read_waiting_for(waiting: wire::WaitingFor) -> Result<WaitingFor, CodecError> {
    let what = match codec::required("waiting_for", waiting.what)? {
        What::HostId(id) => Awaited::Host(codec::id("waiting_for.host_id", &id)?),
        What::TaskId(id) => Awaited::Task(codec::id("waiting_for.task_id", &id)?),
        What::CommandId(id) => Awaited::Command(codec::id("waiting_for.command_id", &id)?),
        What::Locks(locks) => Awaited::Locks(read_awaited_locks(locks)?),
        What::Attention(fault) => Awaited::Attention(convert::fault_from_wire(&fault)),
    };
    Ok(WaitingFor {
        what,
        note: waiting.note.into(),
        since: codec::read_time("waiting_for.since", waiting.since.as_ref())?,
    })
}

fn awaited_locks(blockers: &Blockers) -> wire::AwaitedLocks {
    let by = blockers.by.iter().map(|blocker| wire::AwaitedLock {
        entity: Some(codec::entity(&blocker.entity)),
        holder: Some(codec::holder(&blocker.holder, blocker.mode)),
        waits: blocker.waits,
    });
    wire::AwaitedLocks {
        by: by.collect(),
        left_out: u32::try_from(blockers.more).unwrap_or(u32::MAX),
    }
}

fn read_awaited_locks(locks: wire::AwaitedLocks) -> Result<Blockers, CodecError> {
    let by = locks.by.into_iter().map(|lock| {
        let (holder, mode) = codec::read_holder(codec::required("waiting_for.locks.holder", lock.holder)?)?;
        Ok(Blocker {
            entity: codec::read_entity(codec::required("waiting_for.locks.entity", lock.entity.as_ref())?)?,
            holder,
            mode,
            waits: lock.waits,
        })
    });
    Ok(Blockers {
        by: by.collect::<Result<_, CodecError>>()?,
        more: usize::try_from(locks.left_out).unwrap_or(usize::MAX),
    })
}

fn outcome(outcome: &Outcome) -> wire::Outcome {
    wire::Outcome {
        command_id: outcome.command.to_string(),
        kind: verbs::kind(outcome.kind).into(),
        entity: Some(codec::entity(&outcome.entity)),
        state: state(outcome.state).into(),
        fault: outcome.fault.as_ref().map(convert::fault_to_wire),
    }
}

fn read_outcome(outcome: &wire::Outcome) -> Result<Outcome, CodecError> {
    Ok(Outcome {
        command: codec::id("outcome.command_id", &outcome.command_id)?,
        kind: verbs::read_kind(outcome.kind)?,
        entity: codec::read_entity(codec::required("outcome.entity", outcome.entity.as_ref())?)?,
        state: read_state(outcome.state)?,
        fault: outcome.fault.as_ref().map(convert::fault_from_wire),
    })
}

/// A person's decision to have a host taken over.
pub(crate) struct TakingOver {
    pub(crate) user: String,
    pub(crate) reason: String,
    pub(crate) correlation_id: String,
}

/// The oldest decision to take this host over that is recorded and not yet done.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub(crate) fn taking_over(reader: &dyn Reader, host_id: HostId) -> Result<Option<TakingOver>, StoreError> {
    let host_id = host_id.to_string();
    let mut after = None;
    loop {
        let scan = COMMANDS.live(reader, after.as_deref(), PIECE)?;
        let shown = scan.found.into_iter().filter_map(|(_, record)| record.command);
        let found = shown
            .filter_map(|command| taking_over_by(command, &host_id))
            .next();
        after = scan.next;
        if found.is_some() || after.is_none() {
            return Ok(found);
        }
    }
}

fn taking_over_by(command: wire::Command, host_id: &str) -> Option<TakingOver> {
    use wire::command_parameters::Kind;
    // A command that waits for its locks decides nothing yet.
    let stands = |state: CommandState| !state.is_terminal() && state != CommandState::Pending;
    if !read_state(command.state).is_ok_and(stands) {
        return None;
    }
    let Kind::TakeOverHost(p) = command.parameters?.kind? else {
        return None;
    };
    (p.host_id == host_id).then_some(TakingOver {
        user: command.user,
        reason: p.reason,
        correlation_id: command.correlation_id,
    })
}

//! Parsed filters of the List and Watch RPCs.

use std::collections::BTreeSet;

use common::fault::Fault;
use common::id::{CommandId, HostId, TaskId};
use proto::engine::v1::{
    AsyncTask, AsyncTaskState, Command, CommandKind, CommandState, Event, EventKind, Severity,
    list_commands_request, list_events_request, list_jobs_request, list_tasks_request,
    watch_commands_request, watch_events_request, watch_jobs_request, watch_tasks_request,
};
use proto::task::v1::TaskState;
use runtime::filter::{self, Ids};

use super::field;
use crate::store::entities;

const KINDS: &str = "a CommandKind such as COMMAND_KIND_CREATE_VM";
const STATES: &str = "a CommandState such as COMMAND_STATE_ACTIVE";
const TASK_STATES: &str = "a TaskState such as TASK_STATE_RUNNING";
const ASYNC_STATES: &str = "an AsyncTaskState such as ASYNC_TASK_STATE_WATCHING";

/// Selects commands. An empty field selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommandFilter {
    command_ids: Ids,
    states: BTreeSet<i32>,
    kinds: BTreeSet<i32>,
    roots_only: bool,
    root_command_id: String,
    entity_id: String,
    user: String,
    correlation_id: String,
}

impl CommandFilter {
    pub(crate) fn of_list(filter: Option<&list_commands_request::Filter>) -> Result<Self, Fault> {
        let Some(asked) = filter else {
            return Ok(Self::default());
        };
        Ok(Self {
            command_ids: Ids::default(),
            states: filter::values::<CommandState>("filter.states", &asked.states, STATES)?,
            kinds: filter::values::<CommandKind>("filter.kinds", &asked.kinds, KINDS)?,
            roots_only: asked.roots_only,
            root_command_id: field::id::<CommandId>("filter.root_command_id", &asked.root_command_id)?,
            entity_id: field::entity("filter.entity_id", &asked.entity_id)?,
            user: filter::word("filter.user", &asked.user)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
        })
    }

    pub(crate) fn of_watch(filter: Option<&watch_commands_request::Filter>) -> Result<Self, Fault> {
        let Some(asked) = filter else {
            return Ok(Self::default());
        };
        Ok(Self {
            command_ids: Ids::read::<CommandId>("filter.command_ids", &asked.command_ids)?,
            kinds: filter::values::<CommandKind>("filter.kinds", &asked.kinds, KINDS)?,
            root_command_id: field::id::<CommandId>("filter.root_command_id", &asked.root_command_id)?,
            entity_id: field::entity("filter.entity_id", &asked.entity_id)?,
            user: filter::word("filter.user", &asked.user)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
            ..Self::default()
        })
    }

    /// Jobs are root commands.
    pub(crate) fn of_job_list(filter: Option<&list_jobs_request::Filter>) -> Result<Self, Fault> {
        let Some(asked) = filter else {
            return Ok(Self::roots());
        };
        Ok(Self {
            states: filter::values::<CommandState>("filter.states", &asked.states, STATES)?,
            kinds: filter::values::<CommandKind>("filter.kinds", &asked.kinds, KINDS)?,
            entity_id: field::entity("filter.entity_id", &asked.entity_id)?,
            user: filter::word("filter.user", &asked.user)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
            ..Self::roots()
        })
    }

    pub(crate) fn of_job_watch(filter: Option<&watch_jobs_request::Filter>) -> Result<Self, Fault> {
        let Some(asked) = filter else {
            return Ok(Self::roots());
        };
        Ok(Self {
            command_ids: Ids::read::<CommandId>("filter.job_ids", &asked.job_ids)?,
            kinds: filter::values::<CommandKind>("filter.kinds", &asked.kinds, KINDS)?,
            entity_id: field::entity("filter.entity_id", &asked.entity_id)?,
            user: filter::word("filter.user", &asked.user)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
            ..Self::roots()
        })
    }

    fn roots() -> Self {
        Self {
            roots_only: true,
            ..Self::default()
        }
    }

    /// The memory that the filter takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let texts = [
            &self.root_command_id,
            &self.entity_id,
            &self.user,
            &self.correlation_id,
        ];
        size_of::<Self>()
            + self.command_ids.held_bytes()
            + of_sets([&self.states, &self.kinds])
            + of_texts(texts)
    }

    /// Whether the filter selects every command.
    pub(crate) fn is_every_command(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the filter selects every root.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::roots() || *self == Self::default()
    }

    pub(crate) fn selects(&self, command: &Command) -> bool {
        self.command_ids.select(&command.command_id)
            && (self.states.is_empty() || self.states.contains(&command.state))
            && (self.kinds.is_empty() || self.kinds.contains(&command.kind))
            && (!self.roots_only || command.parent_command_id.is_empty())
            && is(&self.root_command_id, &command.root_command_id)
            && (self.entity_id.is_empty() || entities::command_is_about(command, &self.entity_id))
            && is(&self.user, &command.user)
            && is(&self.correlation_id, &command.correlation_id)
    }
}

/// Selects tasks. An empty field selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskFilter {
    task_ids: Ids,
    states: BTreeSet<i32>,
    async_states: BTreeSet<i32>,
    host_id: String,
    command_id: String,
    root_command_id: String,
    kinds: BTreeSet<i32>,
    entity_id: String,
    user: String,
    correlation_id: String,
}

impl TaskFilter {
    pub(crate) fn of_list(filter: Option<&list_tasks_request::Filter>) -> Result<Self, Fault> {
        let Some(asked) = filter else {
            return Ok(Self::default());
        };
        Ok(Self {
            states: filter::values::<TaskState>("filter.states", &asked.states, TASK_STATES)?,
            async_states: filter::values::<AsyncTaskState>(
                "filter.async_states",
                &asked.async_states,
                ASYNC_STATES,
            )?,
            host_id: field::id::<HostId>("filter.host_id", &asked.host_id)?,
            command_id: field::id::<CommandId>("filter.command_id", &asked.command_id)?,
            root_command_id: field::id::<CommandId>("filter.root_command_id", &asked.root_command_id)?,
            entity_id: field::entity("filter.entity_id", &asked.entity_id)?,
            user: filter::word("filter.user", &asked.user)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
            ..Self::default()
        })
    }

    pub(crate) fn of_watch(filter: Option<&watch_tasks_request::Filter>) -> Result<Self, Fault> {
        let Some(asked) = filter else {
            return Ok(Self::default());
        };
        Ok(Self {
            task_ids: Ids::read::<TaskId>("filter.task_ids", &asked.task_ids)?,
            host_id: field::id::<HostId>("filter.host_id", &asked.host_id)?,
            command_id: field::id::<CommandId>("filter.command_id", &asked.command_id)?,
            root_command_id: field::id::<CommandId>("filter.root_command_id", &asked.root_command_id)?,
            kinds: filter::values::<CommandKind>("filter.kinds", &asked.kinds, KINDS)?,
            entity_id: field::entity("filter.entity_id", &asked.entity_id)?,
            user: filter::word("filter.user", &asked.user)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
            ..Self::default()
        })
    }

    /// The memory that the filter takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let texts = [
            &self.host_id,
            &self.command_id,
            &self.root_command_id,
            &self.entity_id,
            &self.user,
            &self.correlation_id,
        ];
        let sets = of_sets([&self.states, &self.async_states, &self.kinds]);
        size_of::<Self>() + self.task_ids.held_bytes() + sets + of_texts(texts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn selects(&self, task: &AsyncTask) -> bool {
        self.task_ids.select(&task.task_id)
            && (self.states.is_empty() || self.states.contains(&task.state))
            && (self.async_states.is_empty() || self.async_states.contains(&task.async_state))
            && is(&self.host_id, &task.host_id)
            && is(&self.command_id, &task.command_id)
            && is(&self.root_command_id, &task.root_command_id)
            && (self.kinds.is_empty() || self.kinds.contains(&task.command_kind))
            && (self.entity_id.is_empty() || entities::task_is_about(task, &self.entity_id))
            && is(&self.user, &task.user)
            && is(&self.correlation_id, &task.correlation_id)
    }
}

/// Selects events. An empty field selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    kind: EventKind,
    minimum_severity: i32,
    root_command_id: String,
    entity_id: String,
    user: String,
    correlation_id: String,
}

impl EventFilter {
    pub(crate) fn of_list(filter: Option<&list_events_request::Filter>) -> Result<Self, Fault> {
        filter.map_or_else(
            || Ok(Self::default()),
            |f| {
                let kind = EventKind::try_from(f.kind).map_err(|_| {
                    let kind = f.kind;
                    Fault::invalid(
                        "filter.kind",
                        format!(
                            "has the unknown value {kind}; expected an EventKind such as EVENT_KIND_AUDIT"
                        ),
                    )
                })?;
                let filter = Self::read(
                    f.minimum_severity,
                    &f.root_command_id,
                    &f.entity_id,
                    &f.user,
                    &f.correlation_id,
                )?;
                Ok(Self { kind, ..filter })
            },
        )
    }

    pub(crate) fn of_watch(filter: Option<&watch_events_request::Filter>) -> Result<Self, Fault> {
        filter.map_or_else(
            || Ok(Self::default()),
            |f| {
                Self::read(
                    f.minimum_severity,
                    &f.root_command_id,
                    &f.entity_id,
                    &f.user,
                    &f.correlation_id,
                )
            },
        )
    }

    fn read(severity: i32, root: &str, entity: &str, user: &str, correlation: &str) -> Result<Self, Fault> {
        if Severity::try_from(severity).is_err() {
            return Err(Fault::invalid(
                "filter.minimum_severity",
                format!("has the unknown value {severity}; expected a Severity such as SEVERITY_WARNING"),
            ));
        }
        Ok(Self {
            kind: EventKind::Unspecified,
            minimum_severity: severity,
            root_command_id: field::id::<CommandId>("filter.root_command_id", root)?,
            entity_id: field::entity("filter.entity_id", entity)?,
            user: filter::word("filter.user", user)?,
            correlation_id: filter::word("filter.correlation_id", correlation)?,
        })
    }

    /// The memory that the filter takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let texts = [
            &self.root_command_id,
            &self.entity_id,
            &self.user,
            &self.correlation_id,
        ];
        size_of::<Self>() + of_texts(texts)
    }

    /// The kind of events that the filter selects among.
    pub(crate) fn kind(&self) -> EventKind {
        self.kind
    }

    /// Whether the filter selects every event.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn selects(&self, event: &Event) -> bool {
        event.severity >= self.minimum_severity
            && is(&self.root_command_id, &event.root_command_id)
            && (self.entity_id.is_empty() || event.entities.iter().any(|entity| entity.id == self.entity_id))
            && is(&self.user, &event.user)
            && is(&self.correlation_id, &event.correlation_id)
    }
}

fn is(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

fn of_texts<const N: usize>(texts: [&String; N]) -> usize {
    texts.iter().map(|text| text.capacity()).sum()
}

/// The memory of sets of numbers: a tree with one block for each dozen numbers, at least half full.
fn of_sets<const N: usize>(sets: [&BTreeSet<i32>; N]) -> usize {
    const BLOCK: usize = 64;
    let blocks = |set: &BTreeSet<i32>| set.len().div_ceil(5);
    sets.iter().map(|set| blocks(set) * BLOCK).sum()
}

//! The code that the tables' codecs share: small conversions, and the error for a record that cannot be read.

use std::str::FromStr;
use std::time::Duration;

use common::fault::Fault;
use common::id::IdError;
use common::lock::Mode;
use common::operation::{Allocation, VolumeFormat};
use common::revision::Token;
use common::time::Timestamp;
use engine_core::model::{EntityKey, Holder};
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::{EntityKind, EntityRef};
use proto::store::v1::LockRecord;

/// A record that differs from what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the record {problem}")]
pub(crate) struct CodecError {
    field: &'static str,
    problem: String,
}

impl CodecError {
    pub(crate) fn new(field: &'static str, problem: impl ToString) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }
}

impl From<Fault> for CodecError {
    fn from(fault: Fault) -> Self {
        Self::new("a field", fault.message)
    }
}

/// A required id.
pub(crate) fn id<T: FromStr<Err = IdError>>(field: &'static str, text: &str) -> Result<T, CodecError> {
    text.parse().map_err(|error| CodecError::new(field, error))
}

/// An optional id.
pub(crate) fn optional_id<T: FromStr<Err = IdError>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, CodecError> {
    if text.is_empty() {
        return Ok(None);
    }
    id(field, text).map(Some)
}

/// A list of ids.
pub(crate) fn ids<T: FromStr<Err = IdError>>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, CodecError> {
    texts.iter().map(|text| id(field, text)).collect()
}

/// An optional token.
pub(crate) fn token(field: &'static str, text: &str) -> Result<Option<Token>, CodecError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error| CodecError::new(field, error))
}

/// A required message.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, CodecError> {
    value.ok_or_else(|| CodecError::new(field, "is missing"))
}

/// The error for an enum's value that this build does not know.
pub(crate) fn unknown(field: &'static str, value: i32) -> CodecError {
    CodecError::new(field, format!("has the unknown value {value}"))
}

/// An id as text; empty for none.
pub(crate) fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(crate) fn time(time: Timestamp) -> Option<prost_types::Timestamp> {
    Some(convert::timestamp(time))
}

pub(crate) fn read_time(
    field: &'static str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Timestamp, CodecError> {
    Ok(convert::from_timestamp(required(field, time)?))
}

pub(crate) fn read_format(value: i32) -> Result<VolumeFormat, CodecError> {
    convert::format_from_wire("format", value).map_err(|_| unknown("format", value))
}

pub(crate) fn read_allocation(value: i32) -> Result<Allocation, CodecError> {
    convert::allocation_from_wire("allocation", value).map_err(|_| unknown("allocation", value))
}

/// A size in bytes; sizes are signed on the wire.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(field: &'static str, bytes: i64) -> Result<u64, CodecError> {
    u64::try_from(bytes).map_err(|_| CodecError::new(field, "is negative"))
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

pub(super) fn read_duration(
    field: &'static str,
    duration: prost_types::Duration,
) -> Result<Duration, CodecError> {
    convert::from_duration(&duration).ok_or_else(|| CodecError::new(field, "is negative or malformed"))
}

/// A holder of an entity, and how it holds.
pub(crate) fn holder(holder: &Holder, mode: Mode) -> wire::Holder {
    let mode = match mode {
        Mode::Shared => wire::LockMode::Shared,
        Mode::Exclusive => wire::LockMode::Exclusive,
    };
    match holder {
        Holder::Command {
            command_id,
            user,
            since,
        } => wire::Holder {
            command_id: command_id.to_string(),
            foreign_task_id: String::new(),
            user: user.clone(),
            since: time(*since),
            mode: mode.into(),
            host_id: String::new(),
        },
        Holder::ForeignTask {
            task_id,
            host_id,
            since,
        } => wire::Holder {
            command_id: String::new(),
            foreign_task_id: task_id.to_string(),
            user: String::new(),
            since: time(*since),
            mode: mode.into(),
            host_id: host_id.to_string(),
        },
    }
}

/// Reads a recorded holder back, and how it holds.
pub(super) fn read_holder(shown: wire::Holder) -> Result<(Holder, Mode), CodecError> {
    let mode = match shown.mode() {
        wire::LockMode::Shared => Mode::Shared,
        wire::LockMode::Exclusive => Mode::Exclusive,
        wire::LockMode::Unspecified => return Err(unknown("holder.mode", shown.mode)),
    };
    let since = read_time("holder.since", shown.since.as_ref())?;
    let holder = if shown.foreign_task_id.is_empty() {
        Holder::Command {
            command_id: id("holder.command_id", &shown.command_id)?,
            user: shown.user,
            since,
        }
    } else {
        Holder::ForeignTask {
            task_id: id("holder.foreign_task_id", &shown.foreign_task_id)?,
            host_id: id("holder.host_id", &shown.host_id)?,
            since,
        }
    };
    Ok((holder, mode))
}

/// A reference to an entity.
pub(crate) fn entity(key: &EntityKey) -> EntityRef {
    let (kind, id) = match key {
        EntityKey::Host(id) => (EntityKind::Host, id.to_string()),
        EntityKey::Domain(id) => (EntityKind::StorageDomain, id.to_string()),
        EntityKey::Disk(id) => (EntityKind::Disk, id.to_string()),
        EntityKey::Vm(id) => (EntityKind::Vm, id.to_string()),
        EntityKey::VmName(name) => (EntityKind::VmName, name.clone()),
    };
    EntityRef {
        kind: kind.into(),
        id,
    }
}

pub(crate) fn read_entity(entity: &EntityRef) -> Result<EntityKey, CodecError> {
    const FIELD: &str = "entity";
    Ok(match EntityKind::try_from(entity.kind) {
        Ok(EntityKind::Host) => EntityKey::Host(id(FIELD, &entity.id)?),
        Ok(EntityKind::StorageDomain) => EntityKey::Domain(id(FIELD, &entity.id)?),
        Ok(EntityKind::Disk) => EntityKey::Disk(id(FIELD, &entity.id)?),
        Ok(EntityKind::Vm) => EntityKey::Vm(id(FIELD, &entity.id)?),
        Ok(EntityKind::VmName) => EntityKey::VmName(entity.id.clone()),
        Ok(EntityKind::Unspecified) | Err(_) => return Err(unknown(FIELD, entity.kind)),
    })
}

pub(crate) fn lock((key, mode): &(EntityKey, Mode)) -> LockRecord {
    LockRecord {
        entity: Some(entity(key)),
        exclusive: matches!(mode, Mode::Exclusive),
    }
}

pub(crate) fn read_lock(lock: &LockRecord) -> Result<(EntityKey, Mode), CodecError> {
    let mode = if lock.exclusive {
        Mode::Exclusive
    } else {
        Mode::Shared
    };
    Ok((read_entity(required("lock", lock.entity.as_ref())?)?, mode))
}

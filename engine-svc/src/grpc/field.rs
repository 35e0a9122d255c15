//! Fields of requests, checked once at the edge. Every refusal names the field's path.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use common::fault::Fault;
use common::id::{CommandId, IdError};
use common::{operation, text};
use engine_core::model::NewDisk;
use proto::convert;
use proto::engine::v1::DiskSpec;

/// Ids or enum values that one list of a filter may hold: one page of a list's answer.
const LIST_MAX: usize = 1_000;

/// Characters that a user's name or a correlation id of a filter may have; longer ones are never recorded.
const WORD_CHARS: usize = 255;

/// A name: 1 to 255 characters.
pub(crate) fn name(field: impl fmt::Display, value: &str) -> Result<String, Fault> {
    text::name(value).map_err(|error| Fault::invalid(field, error))?;
    Ok(value.to_owned())
}

/// A description: up to 4,096 characters.
pub(crate) fn description(field: impl fmt::Display, value: &str) -> Result<String, Fault> {
    text::description(value).map_err(|error| Fault::invalid(field, error))?;
    Ok(value.to_owned())
}

/// A disk's capacity: 1 byte to 8 TiB, rounded up.
pub(crate) fn capacity(field: impl fmt::Display, bytes: i64) -> Result<u64, Fault> {
    operation::capacity(bytes).map_err(|error| Fault::invalid(field, error))
}

/// A disk that is asked for. `path` leads to its fields in the request.
pub(crate) fn disk(path: &str, disk: &DiskSpec) -> Result<NewDisk, Fault> {
    let at = |name: &str| format!("{path}{name}");
    Ok(NewDisk {
        disk_id: convert::optional_id(at("disk_id"), &disk.disk_id)?,
        domain_id: convert::id(at("domain_id"), &disk.domain_id)?,
        capacity_bytes: capacity(at("capacity_bytes"), disk.capacity_bytes)?,
        format: convert::format_from_wire(at("format"), disk.format)?,
        allocation: convert::allocation_from_wire(at("allocation"), disk.allocation)?,
        description: description(at("description"), &disk.description)?,
    })
}

/// The ids of a filter's list, as they are compared; an empty list selects everything.
pub(crate) fn ids<T>(field: &str, values: &[String]) -> Result<BTreeSet<String>, Fault>
where
    T: FromStr<Err = IdError> + fmt::Display,
{
    bounded(field, values.len())?;
    let ids = values.iter().enumerate();
    let ids = ids.map(|(at, value)| convert::id::<T>(format!("{field}[{at}]"), value));
    ids.map(|id| Ok(id?.to_string())).collect()
}

/// An id of a filter, as it is compared; empty selects everything.
pub(crate) fn id<T>(field: &str, value: &str) -> Result<String, Fault>
where
    T: FromStr<Err = IdError> + fmt::Display,
{
    let id = convert::optional_id::<T>(field, value)?;
    Ok(id.map(|id| id.to_string()).unwrap_or_default())
}

/// The id of an entity of any kind. All kinds of ids have one spelling.
pub(crate) fn entity(field: &str, value: &str) -> Result<String, Fault> {
    id::<CommandId>(field, value)
}

/// The values of a filter's list of an enum; unset and unknown ones are refused.
pub(crate) fn values<E: TryFrom<i32> + Copy>(
    field: &str,
    values: &[i32],
    expected: &str,
) -> Result<BTreeSet<i32>, Fault> {
    bounded(field, values.len())?;
    for (at, value) in values.iter().enumerate() {
        convert::known_enum::<E>(format!("{field}[{at}]"), *value, expected)?;
    }
    Ok(values.iter().copied().collect())
}

/// A user's name or a correlation id of a filter; empty selects everything.
pub(crate) fn word(field: &str, value: &str) -> Result<String, Fault> {
    let chars = value.chars().count();
    if chars > WORD_CHARS {
        let problem = format!("has {chars} characters; at most {WORD_CHARS} are allowed");
        return Err(Fault::invalid(field, problem));
    }
    Ok(value.to_owned())
}

fn bounded(field: &str, len: usize) -> Result<(), Fault> {
    if len > LIST_MAX {
        let problem = format!("has {len} entries; at most {LIST_MAX} are allowed");
        return Err(Fault::invalid(field, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use common::id::TaskId;
    use proto::engine::v1::CommandKind;

    use super::*;

    #[test]
    fn a_wrong_entry_of_a_list_is_named_by_its_place() {
        let good = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned();
        let fault = ids::<TaskId>("filter.task_ids", &[good.clone(), "x".into()]).unwrap_err();
        assert_eq!(fault.subject, "filter.task_ids[1]");
        let fault = values::<CommandKind>("filter.kinds", &[1, 99], "a kind").unwrap_err();
        assert_eq!(fault.subject, "filter.kinds[1]");
        let fault = ids::<TaskId>("filter.task_ids", &vec![good; LIST_MAX + 1]).unwrap_err();
        assert_eq!(fault.subject, "filter.task_ids");
    }
}

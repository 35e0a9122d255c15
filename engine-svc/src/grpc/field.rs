//! Fields of requests, checked once at the edge. Every refusal names the path of the field.

use std::fmt;
use std::str::FromStr;

use common::fault::Fault;
use common::id::{CommandId, IdError};
use common::{operation, text};
use engine_core::model::NewDisk;
use proto::convert;
use proto::engine::v1::DiskSpec;

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

/// A requested disk. `path` leads to the disk's fields in the request.
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

/// An id in a filter, in the spelling that is compared; an empty id selects everything.
pub(crate) fn id<T>(field: &str, value: &str) -> Result<String, Fault>
where
    T: FromStr<Err = IdError> + fmt::Display,
{
    let id = convert::optional_id::<T>(field, value)?;
    Ok(id.map(|id| id.to_string()).unwrap_or_default())
}

/// The id of an entity of any kind. Ids of all kinds have one spelling.
pub(crate) fn entity(field: &str, value: &str) -> Result<String, Fault> {
    id::<CommandId>(field, value)
}

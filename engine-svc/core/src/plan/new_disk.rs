//! A disk to be made: its specification, and the host that can make it.

use common::id::{CommandId, HostId};
use common::{Fault, FaultCode};

use super::words::absent;
use crate::model::{DiskSpec, EntityKey, NewDisk};
use crate::state::State;

/// The requested disk; if the caller named no id, it is derived from the command and `place`.
pub(super) fn spec(command: CommandId, place: &str, request: &NewDisk) -> DiskSpec {
    DiskSpec {
        disk_id: request.disk_id.unwrap_or_else(|| command.disk(place)),
        domain_id: request.domain_id,
        capacity_bytes: request.capacity_bytes,
        format: request.format,
        allocation: request.allocation,
        description: request.description.clone(),
    }
}

/// The host that can make the disk. `path` leads to the disk's fields in the request.
///
/// # Errors
/// There is no such domain, or the disk exists already.
pub(super) fn host(state: &State, disk: &DiskSpec, path: &str) -> Result<HostId, Fault> {
    let Some(domain) = state.domain(disk.domain_id) else {
        let key = EntityKey::Domain(disk.domain_id);
        return Err(absent(state, &key, format!("{path}domain_id")));
    };
    if state.disk(disk.disk_id).is_some() {
        let message = format!("disk {} exists already", disk.disk_id);
        return Err(Fault::new(FaultCode::EntityExists, message).about(format!("{path}disk_id")));
    }
    Ok(domain.host_id)
}

//! A disk that is to be: how it will look, where it can be made, and when it is there.

use common::id::{CommandId, HostId};
use common::{Fault, FaultCode, Timestamp};

use super::{Next, absent, new_image, only_part};
use crate::change::Change;
use crate::input::DiskAsk;
use crate::model::{Command, DiskSpec, EntityKey};
use crate::state::State;

/// The disk that is asked for; where the caller named none, its id is derived from the command and `place`.
pub(super) fn spec(command: CommandId, place: &str, ask: &DiskAsk) -> DiskSpec {
    DiskSpec {
        disk_id: ask.disk_id.unwrap_or_else(|| command.disk(place)),
        domain_id: ask.domain_id,
        capacity_bytes: ask.capacity_bytes,
        format: ask.format,
        allocation: ask.allocation,
        description: ask.description.clone(),
    }
}

/// The host that can make it. `path` leads to its fields in the request.
///
/// # Errors
/// There is no such domain, or there is such a disk.
pub(super) fn host(state: &State, disk: &DiskSpec, path: &str) -> Result<HostId, Fault> {
    let Some(domain) = state.domain(disk.domain_id) else {
        let key = EntityKey::Domain(disk.domain_id);
        return Err(absent(state, &key, format!("{path}domain_id")));
    };
    if state.disk(disk.disk_id).is_some() {
        let message = "there is a disk of this id already";
        return Err(Fault::new(FaultCode::EntityExists, message).about(format!("{path}disk_id")));
    }
    Ok(domain.host_id)
}

/// A root that makes one disk: it is there when its part has made it.
pub(super) fn next(state: &State, command: &Command, now: Timestamp) -> Next {
    only_part::next(state, command, |part| {
        new_image::made(part, now).map(Change::Disk).into_iter().collect()
    })
}

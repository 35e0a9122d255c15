//! Disks: table `disk`, the disk's id → `DiskRecord`.

use engine_core::model::{Disk, DiskSpec, Observation, Presence};
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::disk_observation;
use proto::store::v1::DiskRecord;
use runtime::store::Table;

use super::codec::{self, CodecError};
use super::keyed::Keyed;

/// The table of disks.
pub(crate) const DISKS: Keyed<DiskRecord> = Keyed::new(Table("disk"));

/// The record of a disk.
pub(super) fn record(disk: &Disk) -> DiskRecord {
    DiskRecord {
        disk: Some(wire::Disk {
            disk_id: disk.spec.disk_id.to_string(),
            vm_id: codec::text(disk.vm_id),
            domain_id: disk.spec.domain_id.to_string(),
            volume_id: disk.volume_id.to_string(),
            capacity_bytes: codec::signed(disk.spec.capacity_bytes),
            format: convert::format_to_wire(disk.spec.format).into(),
            allocation: convert::allocation_to_wire(disk.spec.allocation).into(),
            description: disk.spec.description.clone(),
            observation: disk.observation.as_ref().map(observation),
            held_by: None,
        }),
    }
}

/// Reads a record back.
///
/// # Errors
/// [`CodecError`] for what was not written by [`record`].
pub(super) fn read_record(record: DiskRecord) -> Result<Disk, CodecError> {
    let disk = codec::required("disk", record.disk)?;
    Ok(Disk {
        spec: DiskSpec {
            disk_id: codec::id("disk_id", &disk.disk_id)?,
            domain_id: codec::id("domain_id", &disk.domain_id)?,
            capacity_bytes: codec::unsigned("capacity_bytes", disk.capacity_bytes)?,
            format: codec::read_format(disk.format)?,
            allocation: codec::read_allocation(disk.allocation)?,
            description: disk.description,
        },
        vm_id: codec::optional_id("vm_id", &disk.vm_id)?,
        volume_id: codec::id("volume_id", &disk.volume_id)?,
        observation: disk.observation.map(read_observation).transpose()?,
    })
}

fn observation(observation: &Observation) -> wire::DiskObservation {
    let presence = match observation.presence {
        Presence::Unknown => disk_observation::Presence::Unspecified,
        Presence::Whole => disk_observation::Presence::Whole,
        Presence::Partial => disk_observation::Presence::Partial,
        Presence::Absent => disk_observation::Presence::Absent,
    };
    wire::DiskObservation {
        presence: presence.into(),
        time: codec::time(observation.time),
        note: observation.note.clone(),
    }
}

fn read_observation(observation: wire::DiskObservation) -> Result<Observation, CodecError> {
    let presence = match disk_observation::Presence::try_from(observation.presence) {
        Ok(disk_observation::Presence::Whole) => Presence::Whole,
        Ok(disk_observation::Presence::Partial) => Presence::Partial,
        Ok(disk_observation::Presence::Absent) => Presence::Absent,
        Ok(disk_observation::Presence::Unspecified) => Presence::Unknown,
        Err(_) => return Err(codec::unknown("presence", observation.presence)),
    };
    Ok(Observation {
        presence,
        time: codec::read_time("observation.time", observation.time.as_ref())?,
        note: observation.note,
    })
}

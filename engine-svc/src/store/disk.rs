//! Disks: table `disk`, the disk's id → `DiskRecord`.

use common::id::VmId;
use engine_core::model::{Disk, DiskSpec, Observation, Presence};
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::disk_observation;
use proto::store::v1::DiskRecord;
use store::{Reader, StoreError, Table};

use super::codec::{self, CodecError};
use super::keyed::Keyed;
use super::scan::Scan;
use super::tree::whole;
use super::vm::VMS;

/// The table of disks.
pub(super) const DISKS: Keyed<DiskRecord> = Keyed::new(Table("disk"));

/// A disk as it is shown.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub(crate) fn find(reader: &dyn Reader, id: &[u8; 16]) -> Result<Option<wire::Disk>, StoreError> {
    let record = DISKS.get(reader, id)?;
    record.map_or(Ok(None), |record| shown(reader, record))
}

/// Disks as they are shown, after the key `after`.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub(crate) fn page(
    reader: &dyn Reader,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Scan<wire::Disk>, StoreError> {
    let scan = DISKS.page(reader, after, limit)?;
    let mut found = Vec::with_capacity(scan.found.len());
    for (key, record) in scan.found {
        found.extend(shown(reader, record)?.map(|disk| (key, disk)));
    }
    Ok(Scan {
        found,
        next: scan.next,
    })
}

/// The disk's record names the VM to look in, and that VM's record says whether the disk is attached: so the two
/// cannot disagree.
fn shown(reader: &dyn Reader, record: DiskRecord) -> Result<Option<wire::Disk>, StoreError> {
    let Some(mut disk) = record.disk else {
        return Ok(None);
    };
    let vm = match disk.vm_id.parse::<VmId>() {
        Ok(id) => whole(VMS.get(reader, id.as_bytes()))?.and_then(|record| record.vm),
        Err(_) => None,
    };
    if vm.is_none_or(|vm| !vm.disk_ids.contains(&disk.disk_id)) {
        disk.vm_id.clear();
    }
    Ok(Some(disk))
}

/// The record of a disk.
pub(super) fn record(disk: &Disk) -> DiskRecord {
    DiskRecord {
        disk: Some(wire::Disk {
            disk_id: disk.spec.disk_id.to_string(),
            vm_id: codec::text(disk.last_vm),
            domain_id: disk.spec.domain_id.to_string(),
            volume_id: disk.volume_id.to_string(),
            capacity_bytes: codec::signed(disk.spec.capacity_bytes),
            format: convert::format_to_wire(disk.spec.format).into(),
            allocation: convert::allocation_to_wire(disk.spec.allocation).into(),
            description: disk.spec.description.clone(),
            observation: disk.observation.as_ref().map(observation),
            held_by: Vec::new(),
            held_by_left_out: 0,
        }),
    }
}

/// Reads a record back.
///
/// # Errors
/// [`CodecError`] for a record that [`record`] did not write.
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
        last_vm: codec::optional_id("vm_id", &disk.vm_id)?,
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
        note: observation.note.to_string(),
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
        note: observation.note.into(),
    })
}

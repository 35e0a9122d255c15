//! VMs: table `vm`, the VM's id → `VmRecord`.

use engine_core::model::Vm;
use proto::engine::v1 as wire;
use proto::store::v1::VmRecord;
use store::Table;

use super::codec::{self, CodecError};
use super::keyed::Keyed;

/// The table of VMs.
pub(crate) const VMS: Keyed<VmRecord> = Keyed::new(Table("vm"));

/// The record of a VM.
pub(super) fn record(vm: &Vm) -> VmRecord {
    VmRecord {
        vm: Some(wire::Vm {
            vm_id: vm.id.to_string(),
            name: vm.name.clone(),
            description: vm.description.clone(),
            disk_ids: vm.disk_ids.iter().map(ToString::to_string).collect(),
            create_time: codec::time(vm.created),
            held_by: Vec::new(),
            held_by_left_out: 0,
        }),
    }
}

/// Reads a record back.
///
/// # Errors
/// [`CodecError`] for a record that [`record`] did not write.
pub(super) fn read_record(record: VmRecord) -> Result<Vm, CodecError> {
    let vm = codec::required("vm", record.vm)?;
    Ok(Vm {
        id: codec::id("vm_id", &vm.vm_id)?,
        name: vm.name,
        description: vm.description,
        disk_ids: codec::ids("disk_ids", &vm.disk_ids)?,
        created: codec::read_time("create_time", vm.create_time.as_ref())?,
    })
}

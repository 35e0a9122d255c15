//! AttachDisk.

use common::fault::Fault;
use engine_core::model::AttachDisk;
use proto::convert;
use proto::engine::v1::AttachDiskRequest;

wire_form! { AttachDisk <=> AttachDiskParameters { disk_id: id, vm_id: id } }

mutation! { AttachDisk: AttachDiskRequest => AttachDiskResponse, read }

fn read(request: &AttachDiskRequest) -> Result<AttachDisk, Fault> {
    Ok(AttachDisk {
        disk_id: convert::id("disk_id", &request.disk_id)?,
        vm_id: convert::id("vm_id", &request.vm_id)?,
    })
}

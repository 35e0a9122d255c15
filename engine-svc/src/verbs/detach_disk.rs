//! DetachDisk.

use common::fault::Fault;
use engine_core::model::DetachDisk;
use proto::convert;
use proto::engine::v1::DetachDiskRequest;

wire_form! { DetachDisk <=> DetachDiskParameters { disk_id: id, vm_id: id } }

mutation! { DetachDisk: DetachDiskRequest => DetachDiskResponse, read }

fn read(request: &DetachDiskRequest) -> Result<DetachDisk, Fault> {
    Ok(DetachDisk {
        disk_id: convert::id("disk_id", &request.disk_id)?,
        vm_id: convert::id("vm_id", &request.vm_id)?,
    })
}

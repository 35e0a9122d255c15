//! ExtendDisk.

use common::fault::Fault;
use engine_core::model;
use proto::convert;
use proto::engine::v1::ExtendDiskRequest;

use crate::grpc::field;

wire_form! {
    ExtendDisk <=> ExtendDiskParameters {
        disk_id: id, capacity_bytes: bytes, old_capacity_bytes: bytes, volume: volume, host_id: id, disk_name: text,
        host_name: text,
    }
}

mutation! { ExtendDisk: ExtendDiskRequest => ExtendDiskResponse, read }

fn read(request: &ExtendDiskRequest) -> Result<model::ExtendDiskRequest, Fault> {
    Ok(model::ExtendDiskRequest {
        disk_id: convert::id("disk_id", &request.disk_id)?,
        capacity_bytes: field::capacity("capacity_bytes", request.capacity_bytes)?,
    })
}

//! CreateDisk.

use common::fault::Fault;
use engine_core::model::NewDisk;
use proto::engine::v1::{CreateDiskRequest, DiskSpec};

use crate::grpc::field;

wire_form! { CreateDisk <=> CreateDiskParameters { disk: disk } }

mutation! { CreateDisk: CreateDiskRequest => CreateDiskResponse { disk_id }, read }

fn read(request: &CreateDiskRequest) -> Result<NewDisk, Fault> {
    let spec = DiskSpec {
        disk_id: request.disk_id.clone(),
        domain_id: request.domain_id.clone(),
        capacity_bytes: request.capacity_bytes,
        format: request.format,
        allocation: request.allocation,
        description: request.description.clone(),
    };
    field::disk("", &spec)
}

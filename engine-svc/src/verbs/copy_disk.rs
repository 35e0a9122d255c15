//! CopyDisk.

use common::fault::Fault;
use engine_core::model;
use proto::convert;
use proto::engine::v1::CopyDiskRequest;

use crate::grpc::field;

wire_form! { CopyDisk <=> CopyDiskParameters { source_disk_id: id, disk: disk, verify: flag } }

mutation! { CopyDisk: CopyDiskRequest => CopyDiskResponse { disk_id }, read }

fn read(request: &CopyDiskRequest) -> Result<model::CopyDiskRequest, Fault> {
    Ok(model::CopyDiskRequest {
        source_disk_id: convert::id("source_disk_id", &request.source_disk_id)?,
        disk_id: convert::optional_id("disk_id", &request.disk_id)?,
        domain_id: convert::id("domain_id", &request.domain_id)?,
        format: convert::format_from_wire("format", request.format)?,
        allocation: convert::allocation_from_wire("allocation", request.allocation)?,
        description: field::description("description", &request.description)?,
        verify: request.verify,
    })
}

//! RemoveDisk.

use common::fault::Fault;
use engine_core::model::RemoveDisk;
use proto::convert;
use proto::engine::v1::RemoveDiskRequest;

wire_form! { RemoveDisk <=> RemoveDiskParameters { disk_id: id } }

mutation! { RemoveDisk: RemoveDiskRequest => RemoveDiskResponse, read }

fn read(request: &RemoveDiskRequest) -> Result<RemoveDisk, Fault> {
    Ok(RemoveDisk {
        disk_id: convert::id("disk_id", &request.disk_id)?,
    })
}

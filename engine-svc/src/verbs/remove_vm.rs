//! RemoveVm.

use common::fault::Fault;
use engine_core::model;
use proto::convert;
use proto::engine::v1::RemoveVmRequest;

wire_form! { RemoveVm <=> RemoveVmParameters { vm_id: id, name: text } }

mutation! { RemoveVm: RemoveVmRequest => RemoveVmResponse, read }

fn read(request: &RemoveVmRequest) -> Result<model::RemoveVmRequest, Fault> {
    Ok(model::RemoveVmRequest {
        vm_id: convert::id("vm_id", &request.vm_id)?,
    })
}

//! CreateVm.

use common::fault::Fault;
use common::id::VmId;
use engine_core::model::{self, NewDisk};
use proto::convert;
use proto::engine::v1::{CreateVmRequest, DiskSpec};
use runtime::chance;

use crate::grpc::field;

wire_form! { CreateVm <=> CreateVmParameters { vm_id: id, name: text, description: text, disks: disks } }

mutation! { CreateVm: CreateVmRequest => CreateVmResponse { vm_id }, read }

fn read(request: &CreateVmRequest) -> Result<model::CreateVmRequest, Fault> {
    let vm_id = convert::optional_id("vm_id", &request.vm_id)?;
    Ok(model::CreateVmRequest {
        vm_id: vm_id.unwrap_or_else(|| VmId::from_uuid(chance::uuid())),
        name: field::name("name", &request.name)?,
        description: field::description("description", &request.description)?,
        disks: disks(&request.disks)?,
    })
}

fn disks(disks: &[DiskSpec]) -> Result<Vec<NewDisk>, Fault> {
    let disk = |(at, disk)| field::disk(&format!("disks[{at}]."), disk);
    disks.iter().enumerate().map(disk).collect()
}

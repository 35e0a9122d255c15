//! CreateVm.

use std::collections::BTreeSet;

use common::fault::Fault;
use common::id::VmId;
use engine_core::model::{self, NewDisk};
use engine_core::plan::MAX_DISKS;
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
    if disks.len() > MAX_DISKS {
        let problem = format!("has {} entries; at most {MAX_DISKS} are allowed", disks.len());
        return Err(Fault::invalid("disks", problem));
    }
    let mut named = BTreeSet::new();
    let mut new = Vec::with_capacity(disks.len());
    for (at, disk) in disks.iter().enumerate() {
        let disk = field::disk(&format!("disks[{at}]."), disk)?;
        if disk.disk_id.is_some_and(|id| !named.insert(id)) {
            let problem = "names a disk that another entry names already";
            return Err(Fault::invalid(format!("disks[{at}].disk_id"), problem));
        }
        new.push(disk);
    }
    Ok(new)
}

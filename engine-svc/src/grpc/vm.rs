//! `VmService`.

use std::collections::BTreeSet;

use common::fault::Fault;
use common::id::{DiskId, VmId};
use engine_core::model::{self, Ask, EntityKey, NewDisk};
use engine_core::plan::MAX_DISKS;
use proto::convert;
use proto::engine::v1::command_parameters::Kind;
use proto::engine::v1::vm_service_server::VmService;
use proto::engine::v1::{
    CreateVmRequest, CreateVmResponse, DiskSpec, GetVmRequest, GetVmResponse, ListVmsRequest,
    ListVmsResponse, RemoveVmRequest, RemoveVmResponse,
};
use runtime::{chance, page, status};
use tonic::{Request, Response, Status};

use super::api::{self, Api, Wish};
use super::{field, list};
use crate::store::disk;
use crate::store::vm::VMS;

#[tonic::async_trait]
impl VmService for Api {
    async fn create_vm(
        &self,
        request: Request<CreateVmRequest>,
    ) -> Result<Response<CreateVmResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_create(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        let vm_id = match accepted.command.parameters.as_ref().and_then(|p| p.kind.as_ref()) {
            Some(Kind::CreateVm(parameters)) => parameters.vm_id.clone(),
            _ => String::new(),
        };
        Ok(Response::new(CreateVmResponse {
            command: Some(accepted.command),
            token: accepted.token,
            vm_id,
        }))
    }

    async fn get_vm(&self, request: Request<GetVmRequest>) -> Result<Response<GetVmResponse>, Status> {
        let asked = request.into_inner().vm_id;
        let vm_id: VmId = convert::id("vm_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let found = self
            .read(move |reader| {
                let vm = VMS.get(reader, vm_id.as_bytes())?.and_then(|record| record.vm);
                let mut disks = Vec::new();
                for id in vm
                    .iter()
                    .flat_map(|vm| &vm.disk_ids)
                    .filter_map(|id| id.parse::<DiskId>().ok())
                {
                    disks.extend(disk::find(reader, id.as_bytes())?);
                }
                Ok(vm.map(|vm| (vm, disks)))
            })
            .await?;
        let (vm, disks) = found.ok_or_else(|| self.absent("vm_id", &EntityKey::Vm(vm_id)))?;
        Ok(Response::new(GetVmResponse {
            vm: Some(self.show.vm(vm)),
            disks: disks.into_iter().map(|disk| self.show.disk(disk)).collect(),
        }))
    }

    async fn list_vms(&self, request: Request<ListVmsRequest>) -> Result<Response<ListVmsResponse>, Status> {
        let request = request.into_inner();
        let (size, after, name) = decode_list(&request).map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (vms, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &after,
                    |reader, after, limit| VMS.page(reader, after, limit),
                    |_, record| {
                        let vm = record.vm.filter(|vm| name.is_empty() || vm.name == name)?;
                        Some(show.vm(vm))
                    },
                )
            })
            .await?;
        Ok(Response::new(ListVmsResponse {
            vms,
            next_page_token: next.map(|key| page::token(&key)).unwrap_or_default(),
        }))
    }

    async fn remove_vm(
        &self,
        request: Request<RemoveVmRequest>,
    ) -> Result<Response<RemoveVmResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_remove(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(RemoveVmResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }
}

fn decode_create(request: CreateVmRequest) -> Result<Wish, Fault> {
    let vm_id = convert::optional_id("vm_id", &request.vm_id)?;
    let ask = Ask::CreateVm(model::CreateVmRequest {
        vm_id: vm_id.unwrap_or_else(|| VmId::from_uuid(chance::uuid())),
        name: field::name("name", &request.name)?,
        description: field::description("description", &request.description)?,
        disks: decode_disks(&request.disks)?,
    });
    Ok(api::wish!("CreateVm", request, ask))
}

fn decode_disks(disks: &[DiskSpec]) -> Result<Vec<NewDisk>, Fault> {
    if disks.len() > MAX_DISKS {
        let problem = format!("has {} entries; at most {MAX_DISKS} are allowed", disks.len());
        return Err(Fault::invalid("disks", problem));
    }
    let mut named = BTreeSet::new();
    let mut asks = Vec::with_capacity(disks.len());
    for (at, disk) in disks.iter().enumerate() {
        let ask = field::disk(&format!("disks[{at}]."), disk)?;
        if ask.disk_id.is_some_and(|id| !named.insert(id)) {
            let problem = "names a disk that another entry names already";
            return Err(Fault::invalid(format!("disks[{at}].disk_id"), problem));
        }
        asks.push(ask);
    }
    Ok(asks)
}

fn decode_remove(request: RemoveVmRequest) -> Result<Wish, Fault> {
    let ask = Ask::RemoveVm(model::RemoveVmRequest {
        vm_id: convert::id("vm_id", &request.vm_id)?,
    });
    Ok(api::wish!("RemoveVm", request, ask))
}

fn decode_list(request: &ListVmsRequest) -> Result<(usize, Vec<u8>, String), Fault> {
    let name = if request.name.is_empty() {
        String::new()
    } else {
        field::name("name", &request.name)?
    };
    Ok((
        page::size(request.page_size)?,
        page::parse(&request.page_token)?,
        name,
    ))
}

//! `VmService`.

use common::fault::Fault;
use common::id::{DiskId, VmId};
use engine_core::model::EntityKey;
use proto::convert;
use proto::engine::v1::vm_service_server::VmService;
use proto::engine::v1::{
    CreateVmRequest, CreateVmResponse, GetVmRequest, GetVmResponse, ListVmsRequest, ListVmsResponse,
    RemoveVmRequest, RemoveVmResponse,
};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::Api;
use super::{field, list};
use crate::store::disk;
use crate::store::vm::VMS;

#[tonic::async_trait]
impl VmService for Api {
    async fn create_vm(
        &self,
        request: Request<CreateVmRequest>,
    ) -> Result<Response<CreateVmResponse>, Status> {
        self.mutate(request).await
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
        let list = page::List::of(&request);
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
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    async fn remove_vm(
        &self,
        request: Request<RemoveVmRequest>,
    ) -> Result<Response<RemoveVmResponse>, Status> {
        self.mutate(request).await
    }
}

fn decode_list(request: &ListVmsRequest) -> Result<(usize, Vec<u8>, String), Fault> {
    let name = if request.name.is_empty() {
        String::new()
    } else {
        field::name("name", &request.name)?
    };
    Ok((
        page::size(request.page_size)?,
        page::List::of(request).position(&request.page_token)?,
        name,
    ))
}

//! `DiskService`.

use common::fault::Fault;
use common::id::{DiskId, DomainId, VmId};
use engine_core::model::{self, Ask, AttachDisk, DetachDisk, EntityKey, RemoveDisk};
use proto::convert;
use proto::engine::v1::command_parameters::Kind;
use proto::engine::v1::disk_service_server::DiskService;
use proto::engine::v1::{
    AttachDiskRequest, AttachDiskResponse, Command, CopyDiskRequest, CopyDiskResponse, CreateDiskRequest,
    CreateDiskResponse, DetachDiskRequest, DetachDiskResponse, Disk, DiskSpec, GetDiskRequest,
    GetDiskResponse, ListDisksRequest, ListDisksResponse, RemoveDiskRequest, RemoveDiskResponse,
};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::{self, Api, Wish};
use super::{field, list};
use crate::store::disk;

#[tonic::async_trait]
impl DiskService for Api {
    async fn create_disk(
        &self,
        request: Request<CreateDiskRequest>,
    ) -> Result<Response<CreateDiskResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_create(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(CreateDiskResponse {
            disk_id: made(&accepted.command),
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn get_disk(&self, request: Request<GetDiskRequest>) -> Result<Response<GetDiskResponse>, Status> {
        let asked = request.into_inner().disk_id;
        let disk_id: DiskId = convert::id("disk_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let disk = self
            .read(move |reader| disk::find(reader, disk_id.as_bytes()))
            .await?;
        let disk = disk.ok_or_else(|| self.absent("disk_id", &EntityKey::Disk(disk_id)))?;
        Ok(Response::new(GetDiskResponse {
            disk: Some(self.show.disk(disk)),
        }))
    }

    async fn list_disks(
        &self,
        request: Request<ListDisksRequest>,
    ) -> Result<Response<ListDisksResponse>, Status> {
        let query = Query::read(&request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (disks, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    query.size,
                    &query.after,
                    |reader, after, limit| disk::page(reader, after, limit),
                    |_, disk| query.selects(&disk).then(|| show.disk(disk)),
                )
            })
            .await?;
        Ok(Response::new(ListDisksResponse {
            disks,
            next_page_token: next.map(|key| page::token(&key)).unwrap_or_default(),
        }))
    }

    async fn remove_disk(
        &self,
        request: Request<RemoveDiskRequest>,
    ) -> Result<Response<RemoveDiskResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_remove(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(RemoveDiskResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn attach_disk(
        &self,
        request: Request<AttachDiskRequest>,
    ) -> Result<Response<AttachDiskResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_attach(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(AttachDiskResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn detach_disk(
        &self,
        request: Request<DetachDiskRequest>,
    ) -> Result<Response<DetachDiskResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_detach(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(DetachDiskResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn copy_disk(
        &self,
        request: Request<CopyDiskRequest>,
    ) -> Result<Response<CopyDiskResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_copy(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(CopyDiskResponse {
            disk_id: made(&accepted.command),
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }
}

/// The disk that a command makes.
fn made(command: &Command) -> String {
    let disk = match command.parameters.as_ref().and_then(|p| p.kind.as_ref()) {
        Some(Kind::CreateDisk(parameters)) => parameters.disk.as_ref(),
        Some(Kind::CopyDisk(parameters)) => parameters.disk.as_ref(),
        _ => None,
    };
    disk.map(|disk| disk.disk_id.clone()).unwrap_or_default()
}

fn decode_create(request: CreateDiskRequest) -> Result<Wish, Fault> {
    let spec = DiskSpec {
        disk_id: request.disk_id.clone(),
        domain_id: request.domain_id.clone(),
        capacity_bytes: request.capacity_bytes,
        format: request.format,
        allocation: request.allocation,
        description: request.description.clone(),
    };
    let ask = Ask::CreateDisk(field::disk("", &spec)?);
    Ok(api::wish!("CreateDisk", request, ask))
}

fn decode_remove(request: RemoveDiskRequest) -> Result<Wish, Fault> {
    let ask = Ask::RemoveDisk(RemoveDisk {
        disk_id: convert::id("disk_id", &request.disk_id)?,
    });
    Ok(api::wish!("RemoveDisk", request, ask))
}

fn decode_attach(request: AttachDiskRequest) -> Result<Wish, Fault> {
    let ask = Ask::AttachDisk(AttachDisk {
        disk_id: convert::id("disk_id", &request.disk_id)?,
        vm_id: convert::id("vm_id", &request.vm_id)?,
    });
    Ok(api::wish!("AttachDisk", request, ask))
}

fn decode_detach(request: DetachDiskRequest) -> Result<Wish, Fault> {
    let ask = Ask::DetachDisk(DetachDisk {
        disk_id: convert::id("disk_id", &request.disk_id)?,
        vm_id: convert::id("vm_id", &request.vm_id)?,
    });
    Ok(api::wish!("DetachDisk", request, ask))
}

fn decode_copy(request: CopyDiskRequest) -> Result<Wish, Fault> {
    let ask = Ask::CopyDisk(model::CopyDiskRequest {
        source_disk_id: convert::id("source_disk_id", &request.source_disk_id)?,
        disk_id: convert::optional_id("disk_id", &request.disk_id)?,
        domain_id: convert::id("domain_id", &request.domain_id)?,
        format: convert::format_from_wire("format", request.format)?,
        allocation: convert::allocation_from_wire("allocation", request.allocation)?,
        description: field::description("description", &request.description)?,
        verify: request.verify,
    });
    Ok(api::wish!("CopyDisk", request, ask))
}

struct Query {
    vm_id: String,
    domain_id: String,
    size: usize,
    after: Vec<u8>,
}

impl Query {
    fn read(request: &ListDisksRequest) -> Result<Self, Fault> {
        Ok(Self {
            vm_id: field::id::<VmId>("vm_id", &request.vm_id)?,
            domain_id: field::id::<DomainId>("domain_id", &request.domain_id)?,
            size: page::size(request.page_size)?,
            after: page::parse(&request.page_token)?,
        })
    }

    fn selects(&self, disk: &Disk) -> bool {
        (self.vm_id.is_empty() || self.vm_id == disk.vm_id)
            && (self.domain_id.is_empty() || self.domain_id == disk.domain_id)
    }
}

//! `DiskService`.

use common::fault::Fault;
use common::id::{DiskId, DomainId, VmId};
use engine_core::model::EntityKey;
use proto::convert;
use proto::engine::v1::disk_service_server::DiskService;
use proto::engine::v1::*;
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::Api;
use super::{field, list};
use crate::store::disk;

#[tonic::async_trait]
impl DiskService for Api {
    async fn create_disk(
        &self,
        request: Request<CreateDiskRequest>,
    ) -> Result<Response<CreateDiskResponse>, Status> {
        self.mutate(request).await
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
        let request = request.into_inner();
        let list = page::List::of(&request);
        let query = Query::read(&request).map_err(|fault| status::from_fault(&fault))?;
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
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    async fn remove_disk(
        &self,
        request: Request<RemoveDiskRequest>,
    ) -> Result<Response<RemoveDiskResponse>, Status> {
        self.mutate(request).await
    }

    async fn attach_disk(
        &self,
        request: Request<AttachDiskRequest>,
    ) -> Result<Response<AttachDiskResponse>, Status> {
        self.mutate(request).await
    }

    async fn detach_disk(
        &self,
        request: Request<DetachDiskRequest>,
    ) -> Result<Response<DetachDiskResponse>, Status> {
        self.mutate(request).await
    }

    async fn copy_disk(
        &self,
        request: Request<CopyDiskRequest>,
    ) -> Result<Response<CopyDiskResponse>, Status> {
        self.mutate(request).await
    }

    async fn extend_disk(
        &self,
        request: Request<ExtendDiskRequest>,
    ) -> Result<Response<ExtendDiskResponse>, Status> {
        self.mutate(request).await
    }
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
            after: page::List::of(request).position(&request.page_token)?,
        })
    }

    fn selects(&self, disk: &Disk) -> bool {
        (self.vm_id.is_empty() || self.vm_id == disk.vm_id)
            && (self.domain_id.is_empty() || self.domain_id == disk.domain_id)
    }
}

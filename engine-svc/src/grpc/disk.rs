//! `DiskService`.

use common::fault::Fault;
use common::id::{DiskId, DomainId, VmId};
use proto::convert;
use proto::engine::v1::disk_service_server::DiskService;
use proto::engine::v1::{Disk, GetDiskRequest, GetDiskResponse, ListDisksRequest, ListDisksResponse};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::{self, Api};
use super::{field, list};
use crate::store::disk::DISKS;

#[tonic::async_trait]
impl DiskService for Api {
    async fn get_disk(&self, request: Request<GetDiskRequest>) -> Result<Response<GetDiskResponse>, Status> {
        let asked = request.into_inner().disk_id;
        let disk_id: DiskId = convert::id("disk_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let found = self
            .read(move |reader| DISKS.get(reader, disk_id.as_bytes()))
            .await?;
        let disk = found.and_then(|record| record.disk);
        let disk = disk.ok_or_else(|| api::not_found("disk_id", "disk", &asked))?;
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
                    query.size,
                    &query.after,
                    |after, limit| DISKS.page(reader, after, limit),
                    |record| Some(show.disk(record.disk.filter(|disk| query.selects(disk))?)),
                )
            })
            .await?;
        Ok(Response::new(ListDisksResponse {
            disks,
            next_page_token: next.map(|key| page::token(&key)).unwrap_or_default(),
        }))
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
            after: page::parse(&request.page_token)?,
        })
    }

    fn selects(&self, disk: &Disk) -> bool {
        (self.vm_id.is_empty() || self.vm_id == disk.vm_id)
            && (self.domain_id.is_empty() || self.domain_id == disk.domain_id)
    }
}

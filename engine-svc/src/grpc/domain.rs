//! `StorageDomainService`.

use common::fault::Fault;
use common::id::{DomainId, HostId};
use engine_core::model::EntityKey;
use proto::convert;
use proto::engine::v1::storage_domain_service_server::StorageDomainService;
use proto::engine::v1::{
    CreateStorageDomainRequest, CreateStorageDomainResponse, GetStorageDomainRequest,
    GetStorageDomainResponse, ListStorageDomainsRequest, ListStorageDomainsResponse,
};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::Api;
use super::{field, list};
use crate::store::domain::DOMAINS;

#[tonic::async_trait]
impl StorageDomainService for Api {
    async fn create_storage_domain(
        &self,
        request: Request<CreateStorageDomainRequest>,
    ) -> Result<Response<CreateStorageDomainResponse>, Status> {
        self.mutate(request).await
    }

    async fn get_storage_domain(
        &self,
        request: Request<GetStorageDomainRequest>,
    ) -> Result<Response<GetStorageDomainResponse>, Status> {
        let asked = request.into_inner().domain_id;
        let id: DomainId = convert::id("domain_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let found = self
            .read(move |reader| DOMAINS.get(reader, id.as_bytes()))
            .await?;
        let domain = found.and_then(|record| record.domain);
        let domain = domain.ok_or_else(|| self.absent("domain_id", &EntityKey::Domain(id)))?;
        Ok(Response::new(GetStorageDomainResponse {
            domain: Some(self.show.domain(domain)),
        }))
    }

    async fn list_storage_domains(
        &self,
        request: Request<ListStorageDomainsRequest>,
    ) -> Result<Response<ListStorageDomainsResponse>, Status> {
        let request = request.into_inner();
        let list = page::List::of(&request);
        let (size, after, host_id) = decode_list(&request).map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (domains, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &after,
                    |reader, after, limit| DOMAINS.page(reader, after, limit),
                    |_, record| {
                        let here = |id: &str| host_id.is_empty() || id == host_id;
                        Some(show.domain(record.domain.filter(|domain| here(&domain.host_id))?))
                    },
                )
            })
            .await?;
        Ok(Response::new(ListStorageDomainsResponse {
            domains,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }
}

fn decode_list(request: &ListStorageDomainsRequest) -> Result<(usize, Vec<u8>, String), Fault> {
    Ok((
        page::size(request.page_size)?,
        page::List::of(request).position(&request.page_token)?,
        field::id::<HostId>("host_id", &request.host_id)?,
    ))
}

//! `HostService`.

use common::id::HostId;
use engine_core::model::EntityKey;
use proto::convert;
use proto::engine::v1::host_service_server::HostService;
use proto::engine::v1::{
    AddHostRequest, AddHostResponse, GetHostRequest, GetHostResponse, ListHostsRequest, ListHostsResponse,
    RemoveHostRequest, RemoveHostResponse, TakeOverHostRequest, TakeOverHostResponse,
};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::Api;
use super::list;
use crate::store::host::HOSTS;

#[tonic::async_trait]
impl HostService for Api {
    async fn add_host(&self, request: Request<AddHostRequest>) -> Result<Response<AddHostResponse>, Status> {
        self.mutate(request).await
    }

    async fn get_host(&self, request: Request<GetHostRequest>) -> Result<Response<GetHostResponse>, Status> {
        let asked = request.into_inner().host_id;
        let id: HostId = convert::id("host_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let found = self
            .read(move |reader| Ok(HOSTS.get(reader, id.as_bytes())?.and_then(|record| record.host)))
            .await?;
        let host = found.ok_or_else(|| self.absent("host_id", &EntityKey::Host(id)))?;
        Ok(Response::new(GetHostResponse {
            host: Some(self.show.host(host)),
        }))
    }

    async fn list_hosts(
        &self,
        request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size).map_err(|fault| status::from_fault(&fault))?;
        let list = page::List::of(&request);
        let after = list.position(&request.page_token);
        let after = after.map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (hosts, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &after,
                    |reader, after, limit| HOSTS.page(reader, after, limit),
                    |_, record| Some(show.host(record.host?)),
                )
            })
            .await?;
        Ok(Response::new(ListHostsResponse {
            hosts,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    async fn remove_host(
        &self,
        request: Request<RemoveHostRequest>,
    ) -> Result<Response<RemoveHostResponse>, Status> {
        self.mutate(request).await
    }

    async fn take_over_host(
        &self,
        request: Request<TakeOverHostRequest>,
    ) -> Result<Response<TakeOverHostResponse>, Status> {
        self.mutate(request).await
    }
}

//! `HostService`.

use common::fault::Fault;
use common::id::HostId;
use engine_core::model::{AddHost, Ask, EntityKey, RemoveHost, TakeOverHost};
use proto::convert;
use proto::engine::v1::host_service_server::HostService;
use proto::engine::v1::{
    AddHostRequest, AddHostResponse, GetHostRequest, GetHostResponse, ListHostsRequest, ListHostsResponse,
    RemoveHostRequest, RemoveHostResponse, TakeOverHostRequest, TakeOverHostResponse,
};
use runtime::{client, page, status};
use tonic::{Request, Response, Status};

use super::api::{self, Api, Wish};
use super::{field, list};
use crate::store::host::HOSTS;

#[tonic::async_trait]
impl HostService for Api {
    async fn add_host(&self, request: Request<AddHostRequest>) -> Result<Response<AddHostResponse>, Status> {
        let caller = api::caller(&request)?;
        let request = request.into_inner();
        let host_id = request.host_id.clone();
        let wish = decode_add(request).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(AddHostResponse {
            command: Some(accepted.command),
            token: accepted.token,
            host_id,
        }))
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
        let after = page::parse(&request.page_token).map_err(|fault| status::from_fault(&fault))?;
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
            next_page_token: next.map(|key| page::token(&key)).unwrap_or_default(),
        }))
    }

    async fn remove_host(
        &self,
        request: Request<RemoveHostRequest>,
    ) -> Result<Response<RemoveHostResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_remove(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(RemoveHostResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn take_over_host(
        &self,
        request: Request<TakeOverHostRequest>,
    ) -> Result<Response<TakeOverHostResponse>, Status> {
        let caller = api::caller(&request)?;
        let wish = decode_take_over(request.into_inner()).map_err(|fault| status::from_fault(&fault))?;
        let accepted = self.submit(caller, wish).await?;
        Ok(Response::new(TakeOverHostResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }
}

fn decode_add(request: AddHostRequest) -> Result<Wish, Fault> {
    client::endpoint(&request.address)?;
    let ask = Ask::AddHost(AddHost {
        host_id: convert::id("host_id", &request.host_id)?,
        name: field::name("name", &request.name)?,
        address: request.address.clone(),
    });
    Ok(api::wish!("AddHost", request, ask))
}

fn decode_remove(request: RemoveHostRequest) -> Result<Wish, Fault> {
    let ask = Ask::RemoveHost(RemoveHost {
        host_id: convert::id("host_id", &request.host_id)?,
    });
    Ok(api::wish!("RemoveHost", request, ask))
}

fn decode_take_over(request: TakeOverHostRequest) -> Result<Wish, Fault> {
    // Both are empty for a host that is recorded.
    if !request.address.is_empty() {
        client::endpoint(&request.address)?;
    }
    if !request.name.is_empty() {
        field::name("name", &request.name)?;
    }
    let reason = field::description("reason", &request.reason)?;
    if reason.is_empty() {
        return Err(Fault::invalid(
            "reason",
            "is empty; say why the host changes hands",
        ));
    }
    let ask = Ask::TakeOverHost(TakeOverHost {
        host_id: convert::id("host_id", &request.host_id)?,
        name: request.name.clone(),
        address: request.address.clone(),
        reason,
    });
    Ok(api::wish!("TakeOverHost", request, ask))
}

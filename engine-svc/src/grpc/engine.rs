//! `EngineService`.

use std::sync::Arc;

use engine_core::Stance;
use proto::access::Role;
use proto::codes::SERVICES;
use proto::convert::{fault_to_wire, timestamp};
use proto::engine::v1::engine_service_server::EngineService;
use proto::engine::v1::{
    EngineInfo, GetEngineInfoRequest, GetEngineInfoResponse, Role as WireRole, WhoAmIRequest, WhoAmIResponse,
};
use runtime::clock;
use runtime::tls::Peer;
use tonic::{Request, Response, Status};

use super::api::{Api, caller};

#[tonic::async_trait]
impl EngineService for Api {
    async fn get_engine_info(
        &self,
        _: Request<GetEngineInfoRequest>,
    ) -> Result<Response<GetEngineInfoResponse>, Status> {
        let life = self.lives.now();
        let refuses = match &*self.stances.borrow() {
            Stance::Acts => None,
            Stance::Undecided(fault) | Stance::Over(fault) => Some(fault_to_wire(fault)),
        };
        Ok(Response::new(GetEngineInfoResponse {
            engine: Some(EngineInfo {
                engine_id: life.engine_id.to_string(),
                epoch: life.epoch,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                start_time: Some(timestamp(self.start_time)),
                time: Some(timestamp(clock::now())),
                refuses_commands: refuses,
            }),
        }))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let user = caller(&request)?.user;
        let peer = request.extensions().get::<Arc<Peer>>();
        let role = peer.map(|peer| peer.identity.role());
        let permitted = super::SERVICES.into_iter().flat_map(|service| {
            let rows = SERVICES.iter().filter(move |row| row.name == service);
            rows.flat_map(|row| row.rpcs)
                .filter(|rpc| role.is_none_or(|role| rpc.access.permits(role)))
                .map(move |rpc| format!("{service}/{}", rpc.name))
        });
        Ok(Response::new(WhoAmIResponse {
            user,
            authenticated: peer.is_some(),
            role: role
                .map_or(WireRole::Unspecified, |role| wire(role.unwrap_or(Role::Viewer)))
                .into(),
            permitted_rpcs: permitted.collect(),
        }))
    }
}

const fn wire(role: Role) -> WireRole {
    match role {
        Role::Viewer => WireRole::Viewer,
        Role::Operator => WireRole::Operator,
        Role::Admin => WireRole::Admin,
    }
}

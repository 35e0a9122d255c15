//! TakeOverHost.

use common::fault::Fault;
use engine_core::model::TakeOverHost;
use proto::convert;
use proto::engine::v1::TakeOverHostRequest;
use runtime::client;
use runtime::tls::HostName;

use crate::grpc::field;

wire_form! {
    TakeOverHost <=> TakeOverHostParameters { host_id: id, name: text, address: text, identity: text, reason: text }
}

mutation! { TakeOverHost: TakeOverHostRequest => TakeOverHostResponse, read }

fn read(request: &TakeOverHostRequest) -> Result<TakeOverHost, Fault> {
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
    let host_id = convert::id("host_id", &request.host_id)?;
    let identity = HostName::of(&request.identity, host_id)?;
    Ok(TakeOverHost {
        host_id,
        name: request.name.clone(),
        address: request.address.clone(),
        identity: identity.recorded(),
        reason,
    })
}

//! AddHost.

use common::fault::Fault;
use engine_core::model::AddHost;
use proto::convert;
use proto::engine::v1::AddHostRequest;
use runtime::client;
use runtime::tls::HostName;

use crate::grpc::field;

wire_form! { AddHost <=> AddHostParameters { host_id: id, name: text, address: text, identity: text } }

mutation! { AddHost: AddHostRequest => AddHostResponse { host_id }, read }

fn read(request: &AddHostRequest) -> Result<AddHost, Fault> {
    client::endpoint(&request.address)?;
    let host_id = convert::id("host_id", &request.host_id)?;
    let identity = HostName::of(&request.identity, host_id)?;
    Ok(AddHost {
        host_id,
        name: field::name("name", &request.name)?,
        address: request.address.clone(),
        identity: identity.recorded(),
    })
}

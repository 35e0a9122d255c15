//! CreateStorageDomain.

use common::fault::Fault;
use common::id::DomainId;
use engine_core::model::CreateStorageDomain;
use proto::convert;
use proto::engine::v1::CreateStorageDomainRequest;
use runtime::chance;

use crate::grpc::field;

wire_form! { CreateStorageDomain <=> CreateStorageDomainParameters { domain_id: id, name: text, host_id: id } }

mutation! { CreateStorageDomain: CreateStorageDomainRequest => CreateStorageDomainResponse { domain_id }, read }

fn read(request: &CreateStorageDomainRequest) -> Result<CreateStorageDomain, Fault> {
    let domain_id = convert::optional_id("domain_id", &request.domain_id)?;
    Ok(CreateStorageDomain {
        domain_id: domain_id.unwrap_or_else(|| DomainId::from_uuid(chance::uuid())),
        name: field::name("name", &request.name)?,
        host_id: convert::id("host_id", &request.host_id)?,
    })
}

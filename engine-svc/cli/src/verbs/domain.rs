use proto::engine::v1::storage_domain_service_client::StorageDomainServiceClient;
use proto::engine::v1::{CreateStorageDomainRequest, ListStorageDomainsRequest};

use super::{Carried, accepted, print_list};
use crate::args::Domain;
use crate::engine::{Engine, call, pages};
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(verb: Domain, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Domain::Create { name, host, asked } => {
            let carried = Carried::new(&asked);
            let request = CreateStorageDomainRequest {
                name,
                host_id: engine.host(&host).await?,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
                ..Default::default()
            };
            let answer = call!(engine, StorageDomainServiceClient, create_storage_domain, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Domain::List { host, size } => {
            let mut request = ListStorageDomainsRequest::default();
            if let Some(host) = host {
                request.host_id = engine.host(&host).await?;
            }
            let limit = size.limit;
            let found = pages!(
                engine,
                StorageDomainServiceClient,
                list_storage_domains,
                request,
                domains,
                limit
            )?;
            print_list(output, &found)
        }
        Domain::Show { domain } => output.one(&engine.get_domain(&engine.domain(&domain).await?).await?),
    }
}

use proto::engine::v1::host_service_client::HostServiceClient;
use proto::engine::v1::{AddHostRequest, RemoveHostRequest, TakeOverHostRequest};

use super::{Carried, accepted, print_list};
use crate::args::Host;
use crate::engine::{Engine, call, only_id};
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(verb: Host, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Host::Add {
            name,
            address,
            id,
            identity,
            asked,
        } => {
            let carried = Carried::new(&asked);
            let request = AddHostRequest {
                host_id: only_id("host", &id)?,
                name,
                address,
                identity: identity.unwrap_or_default(),
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, HostServiceClient, add_host, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Host::List { size } => print_list(output, &engine.hosts(size.limit).await?),
        Host::Show { host } => output.one(&engine.get_host(&engine.host(&host).await?).await?),
        Host::Remove { host, asked } => {
            let carried = Carried::new(&asked);
            let request = RemoveHostRequest {
                host_id: engine.host(&host).await?,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, HostServiceClient, remove_host, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Host::TakeOver {
            host,
            name,
            address,
            identity,
            reason,
            asked,
        } => {
            let carried = Carried::new(&asked);
            let request = TakeOverHostRequest {
                host_id: engine.host(&host).await?,
                name: name.unwrap_or_default(),
                address: address.unwrap_or_default(),
                identity: identity.unwrap_or_default(),
                reason,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, HostServiceClient, take_over_host, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
    }
}

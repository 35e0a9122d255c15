//! TLS: a client without a certificate, or with somebody else's, is refused everywhere and changes nothing, and both
//! sides say why; a client with the right certificate goes on over kills and over new certificates.

mod audit;
mod identity;
mod main_job;
mod rotation;
mod start;
mod wrong;

use proto::engine::v1::GetHostRequest;
use proto::task::v1::Fault;
use tests::failure::{Context as _, TestResult};
use tests::patience::eventually;
use tests::{World, client};

/// Waits until the engine shows a host with a fault whose message says this.
async fn host_shows(client: &client::Engine, host_id: &str, text: &str) -> TestResult<Fault> {
    let what = format!("the host to be shown with {text:?}");
    eventually(&what, || {
        let mut hosts = client.hosts.clone();
        let request = GetHostRequest {
            host_id: host_id.to_owned(),
        };
        async move {
            let host = hosts.get_host(request).await.ok()?.into_inner().host?;
            let fault = host.connection_fault?;
            fault.message.contains(text).then_some(fault)
        }
    })
    .await
}

/// The TLS of a world that has some.
fn locks(world: &World) -> TestResult<&tests::tls::Locks> {
    world.locks.as_ref().context("a world without locks")
}

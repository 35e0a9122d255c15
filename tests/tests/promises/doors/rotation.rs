//! New certificates, and a new CA, while services are at work.

use std::path::Path;

use proto::engine::v1::ListHostsRequest;
use proto::engine::v1::host::Connection;
use proto::host::v1::GetHostInfoRequest;
use rustix::process::Signal;
use tests::audit::all_is_well;
use tests::client::{Engine, Host};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::eventually;
use tests::tls::{Keys, Knock, Pki};
use tests::watch::Watchers;
use tests::{World, requests};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::locks;

/// The certificate that a server shows.
fn shown(tls: &TlsStream<TcpStream>) -> Vec<u8> {
    let (_, connection) = tls.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    chain.first().map(|der| der.to_vec()).unwrap_or_default()
}

/// Replaces files, each in one step.
fn replace(from: &Path, to: &Path) -> TestResult<()> {
    let aside = to.with_extension("new");
    std::fs::copy(from, &aside)?;
    Ok(std::fs::rename(aside, to)?)
}

#[tokio::test]
async fn certificates_are_renewed_under_an_open_stream() -> TestResult<()> {
    let world = World::locked().await?;
    let domain = world.furnish().await?;
    let (pki, admin) = (&locks(&world)?.pki, &locks(&world)?.admin);
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    let ip = world.host.address().ip().to_string();
    let host_id = &world.host_id;
    let out = format!("host-{host_id}");
    let knock = Knock::with(admin);
    for (service, renewal) in [
        (
            &world.host,
            ["issue-host", &*out, "--host-id", host_id, "--name", &ip],
        ),
        (
            &world.engine,
            [
                "issue-engine",
                "engine",
                "--engine-id",
                &engine_id(&world).await?,
                "--name",
                &ip,
            ],
        ),
    ] {
        let address = service.address();
        let before = shown(&knock.shake_hands(address).await?);
        let [what, out, more @ ..] = renewal;
        pki.issue(what, out, &[&more[..], &["--replace"]].concat())?;
        service.signal(Signal::HUP)?;
        eventually("the new certificate to be shown", || async {
            let tls = knock.shake_hands(address).await.ok()?;
            (shown(&tls) != before).then_some(())
        })
        .await?;
        service.says("the certificates have changed").await?;
    }
    // The change takes effect without the signal as well. The streams have gone on all the time, and so does the
    // work.
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.succeeds(&removed).await?;
    ensure(
        world
            .engine
            .log_tail(usize::MAX)
            .matches("the host is connected")
            .count()
            == 1,
        || "the stream to the host was broken off".to_owned(),
    )?;
    all_is_well(&world.view(), &watchers).await.map(drop)
}

async fn engine_id(world: &World) -> TestResult<String> {
    let mut host = world.host_client.host.clone();
    let info = host.get_host_info(GetHostInfoRequest::default()).await?;
    Ok(info.into_inner().host.context("no host")?.engine_id)
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_and_is_told_once() -> TestResult<()> {
    let world = World::locked().await?;
    world.furnish().await?;
    let keys = locks(&world)?.host.clone();
    let good = std::fs::read(&keys.cert)?;
    for (bad, words) in [
        (&b""[..], "holds no certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "does not hold a certificate",
        ),
        (
            &std::fs::read(&locks(&world)?.admin.cert)?,
            "cannot be used together",
        ),
    ] {
        std::fs::write(&keys.cert, bad)?;
        world.host.signal(Signal::HUP)?;
        world.host.says(words).await?;
        world.host.says("the former ones stay in use").await?;
        let knock = Knock::with(&locks(&world)?.admin);
        knock.shake_hands(world.host.address()).await?;
    }
    std::fs::write(&keys.cert, good)?;
    // The engine's certificate may not become another engine's.
    let engine = locks(&world)?.engine.clone();
    let other = locks(&world)?
        .pki
        .issue("issue-engine", "other", &["--name", "localhost"])?;
    replace(&other.key, &engine.key)?;
    replace(&other.cert, &engine.cert)?;
    world
        .engine
        .says("but this data directory belongs to engine")
        .await?;
    world.host_is(Connection::Connected).await
}

#[tokio::test]
async fn a_ca_is_replaced_without_a_pause_and_what_it_signed_is_shut_out_then() -> TestResult<()> {
    let world = World::locked().await?;
    let domain = world.furnish().await?;
    let old = locks(&world)?;
    let (host_id, ip) = (world.host_id.clone(), world.host.address().ip().to_string());
    let engine_id = engine_id(&world).await?;
    let new = Pki::make(world.folder().join("new-pki"))?;
    let both = [&old.pki, &new]
        .map(|pki| std::fs::read_to_string(pki.dir.join("ca.crt")))
        .into_iter()
        .collect::<Result<String, _>>()?;
    let (host, engine) = (&old.host, &old.engine);
    let watching = world.host_client.clone();
    // First everybody trusts both CAs.
    for (service, keys) in [(&world.host, host), (&world.engine, engine)] {
        std::fs::write(keys.ca.with_extension("new"), &both)?;
        std::fs::rename(keys.ca.with_extension("new"), &keys.ca)?;
        service.signal(Signal::HUP)?;
        service.says("the certificates have changed").await?;
    }
    // Then everybody gets a certificate of the new CA.
    let next = new.host(&host_id, &ip)?;
    replace(&next.key, &host.key)?;
    replace(&next.cert, &host.cert)?;
    let next = new.issue(
        "issue-engine",
        "engine",
        &["--engine-id", &engine_id, "--name", &ip],
    )?;
    replace(&next.key, &engine.key)?;
    replace(&next.cert, &engine.cert)?;
    for service in [&world.host, &world.engine] {
        service.signal(Signal::HUP)?;
        said(service, "the certificates have changed", 2).await?;
    }
    let admin = Keys {
        ca: host.ca.clone(),
        ..new.user("ann", "admin")?
    };
    // The old user is admitted as well as the new one.
    let engine_client = Engine::over(Knock::with(&admin).channel(world.engine.address())?);
    engine_client
        .hosts
        .clone()
        .list_hosts(ListHostsRequest::default())
        .await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = engine_client.ask_create_vm(&vm).await?;
    engine_client.succeeds(&created).await?;
    // A connection that the engine keeps was made with the engine's old certificate: it is made anew when its stream
    // ends, after an hour at most. A restart of either service does so at once.
    watching
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await?;
    // Finally nobody trusts the old CA. Clients that are connected with one of its certificates are disconnected.
    for (service, keys) in [(&world.host, host), (&world.engine, engine)] {
        replace(&new.dir.join("ca.crt"), &keys.ca)?;
        service.signal(Signal::HUP)?;
        said(service, "the certificates have changed", 3).await?;
        service.says("closing the connection of a client").await?;
    }
    let out = watching
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await;
    ensure(out.is_err(), || "the old user is still in".to_owned())?;
    world.host.says("of a CA that is not trusted here").await?;
    // The engine has connected again with its new certificate, and works.
    engine_client.sees_host(&host_id, Connection::Connected).await?;
    let removed = engine_client
        .ask_remove_vm(&requests::remove_vm(&vm.vm_id))
        .await?;
    engine_client.succeeds(&removed).await?;
    let host_client = Host::over(Knock::with(&admin).channel(world.host.address())?);
    host_client
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await?;
    Ok(())
}

async fn said(service: &tests::service::Service, text: &str, times: usize) -> TestResult<()> {
    eventually(&format!("{text:?} {times} times"), || {
        let count = service.log_tail(usize::MAX).matches(text).count();
        std::future::ready((count >= times).then_some(()))
    })
    .await
    .map_err(|failure| Failure::new(format!("{failure}\n{}", service.log_tail(20))))
}

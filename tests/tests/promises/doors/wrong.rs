//! Every wrong way to connect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proto::engine::v1::ListHostsRequest;
use proto::host::v1::GetHostInfoRequest;
use rcgen::ExtendedKeyUsagePurpose;
use tests::client::{Engine, Host};
use tests::failure::{Failure, TestResult, ensure};
use tests::service::Service;
use tests::tls::{Keys, Knock, Odd, Pki, self_signed};
use tests::{World, requests};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::locks;

/// Longer than any handshake here, shorter than its deadline.
const SOON: Duration = Duration::from_secs(8);

/// The first record of a TLS 1.2 client: a hello without extensions, and therefore without TLS 1.3.
fn old_hello() -> Vec<u8> {
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    // No session, two cipher suites, no compression.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let length = u8::try_from(hello.len()).expect("short");
    let mut record = vec![0x16, 0x03, 0x01, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

/// Sends these bytes; returns what came back before the end.
async fn sends(address: SocketAddr, bytes: &[u8]) -> TestResult<Vec<u8>> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.write_all(bytes).await?;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = soon("the connection to end", tcp.read_to_end(&mut answer)).await?;
    Ok(answer)
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> TestResult<T> {
    let done = timeout(SOON, work).await;
    done.map_err(|_| Failure::new(format!("waited {SOON:?} in vain for {what}")))
}

/// Both services, with their names.
fn services(world: &World) -> [(&'static str, &Service); 2] {
    [("the engine", &world.engine), ("the host", &world.host)]
}

/// Makes a call that every admitted client may make.
async fn asks(name: &str, knock: &Knock, address: SocketAddr) -> TestResult<Result<(), tonic::Status>> {
    let channel = knock.channel(address)?;
    let answer = async {
        match name {
            "the engine" => {
                let list = ListHostsRequest::default();
                Engine::over(channel).hosts.list_hosts(list).await.map(drop)
            }
            _ => {
                let info = GetHostInfoRequest::default();
                Host::over(channel).host.get_host_info(info).await.map(drop)
            }
        }
    };
    soon("an answer", answer).await
}

#[tokio::test]
async fn every_wrong_certificate_is_refused_in_words_and_changes_nothing() -> TestResult<()> {
    let world = World::locked().await?;
    world.furnish().await?;
    let pki = &locks(&world)?.pki;
    let host = &locks(&world)?.host;
    let other = Pki::make(world.folder().join("other-pki"))?;
    let strangers = other.user("ann", "admin")?;
    let ours = |keys: &Keys| Keys {
        ca: locks_ca(pki),
        ..keys.clone()
    };
    let admin = Odd::admin;
    let sign = |odd: Odd, out: &str| odd.sign(pki, out);
    let shown: [(&str, Option<Keys>, &str); 9] = [
        ("none", None, "shows no certificate"),
        (
            "its own",
            Some(self_signed(&world.folder().join("self"), &locks_ca(pki))?),
            "of a CA that is not trusted here",
        ),
        (
            "of another CA",
            Some(ours(&strangers)),
            "of a CA that is not trusted here",
        ),
        (
            "expired",
            Some(sign(
                Odd {
                    days: (-9, -1),
                    ..admin()
                },
                "expired",
            )?),
            "that has expired",
        ),
        (
            "not yet valid",
            Some(sign(
                Odd {
                    days: (1, 9),
                    ..admin()
                },
                "early",
            )?),
            "that is not valid yet",
        ),
        (
            "for servers",
            Some(sign(
                Odd {
                    usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
                    ..admin()
                },
                "server",
            )?),
            "that is not for this",
        ),
        ("a host's", Some(ours(host)), "that is not for this"),
        (
            "a host's, for clients",
            Some(sign(
                Odd {
                    uris: vec![format!("host:{}", world.host_id)],
                    ..admin()
                },
                "host-client",
            )?),
            "but hosts may call nobody",
        ),
        (
            "of two engines",
            Some(sign(
                Odd {
                    uris: vec![
                        format!("engine:{}", tests::ids::fresh()),
                        format!("engine:{}", tests::ids::fresh()),
                    ],
                    ..admin()
                },
                "two",
            )?),
            "names both",
        ),
    ];
    let before = facts(&world).await?;
    for (what, shows, words) in shown {
        for (name, service) in services(&world) {
            let knock = Knock {
                ca: locks_ca(pki),
                shows: shows.clone(),
            };
            let known = count(service, words);
            let answer = asks(name, &knock, service.address()).await?;
            ensure(answer.is_err(), || format!("{what}: {name} let it in"))?;
            ensure(said_more(service, words, known).await, || {
                format!("{what}: {name} does not say {words:?}:\n{}", service.log_tail(20))
            })?;
        }
    }
    ensure(facts(&world).await? == before, || {
        "something has changed".to_owned()
    })?;
    // The right certificate is admitted, as before.
    let created = world.create_vm(&requests::create_vm("web", Vec::new())).await?;
    world.succeeds(&created).await
}

#[tokio::test]
async fn who_speaks_no_tls_or_an_old_one_is_told_so() -> TestResult<()> {
    let world = World::locked().await?;
    for (name, service) in services(&world) {
        let answer = sends(service.address(), &old_hello()).await?;
        ensure(answer.first() == Some(&0x15), || {
            format!("{name} says {answer:?} to TLS 1.2")
        })?;
        service.says("does not speak TLS 1.3").await?;
        sends(service.address(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        service.says("does not speak TLS: plain text").await?;
        let plain = Engine::at(service.address())?;
        let list = plain.hosts.clone().list_hosts(ListHostsRequest::default()).await;
        ensure(list.is_err(), || format!("{name} answers plain text"))?;
    }
    // And the other way round.
    let plain = World::start().await?;
    let admin = Knock::with(&locks(&world)?.admin);
    for (name, service) in services(&plain) {
        let shaken = admin.shake_hands(service.address()).await;
        ensure(shaken.is_err(), || format!("{name} shakes hands in plain text"))?;
        service.says("speaks TLS, and this service does not").await?;
    }
    Ok(())
}

fn locks_ca(pki: &Pki) -> PathBuf {
    pki.dir.join("ca.crt")
}

fn count(service: &Service, words: &str) -> usize {
    service.log_tail(usize::MAX).matches(words).count()
}

async fn said_more(service: &Service, words: &str, than: usize) -> bool {
    let said = tests::patience::eventually("the log", || {
        std::future::ready((count(service, words) > than).then_some(()))
    });
    soon("the log", said).await.is_ok()
}

/// Facts that would show a change.
async fn facts(world: &World) -> TestResult<String> {
    let mut hosts = world.client.hosts.clone();
    let hosts = hosts
        .list_hosts(ListHostsRequest::default())
        .await?
        .into_inner()
        .hosts;
    let ids: Vec<_> = hosts.iter().map(|host| (&host.host_id, &host.cursor)).collect();
    let mut host = world.host_client.host.clone();
    let info = host.get_host_info(GetHostInfoRequest::default()).await?;
    let info = info.into_inner().host.unwrap_or_default();
    Ok(format!("{ids:?} {} {}", info.engine_id, info.token))
}

//! A door with a lock: bounds hold before anybody is known.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use runtime::client::{self, Connector};
use runtime::metrics::Meters;
use runtime::server::{Health, Limits, Listening, serve};
use runtime::tls::{ClientTls, Door, HostDoor, HostName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Error};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::patient;

const HOST: &str = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";
const ENGINE: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

/// A CA, and the keys of a host and of an engine.
struct Keys(TempDir);

impl Keys {
    fn make() -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca"), ca.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, uri, usage) in [
            (
                "host",
                format!("host:{HOST}"),
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            (
                "engine",
                format!("engine:{ENGINE}"),
                ExtendedKeyUsagePurpose::ClientAuth,
            ),
        ] {
            let mut params = CertificateParams::new(vec!["host-1.example".to_owned()]).unwrap();
            let uri = Ia5String::try_from(uri).unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.crt")), cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.path().join(name))
    }

    fn door(&self) -> Door {
        Door {
            tls_cert: self.path("host.crt"),
            tls_key: self.path("host.key"),
            tls_client_ca: self.path("ca"),
            insecure: false,
        }
    }

    fn connector(&self) -> Connector {
        let door = HostDoor {
            host_tls_cert: self.path("engine.crt"),
            host_tls_key: self.path("engine.key"),
            host_tls_ca: self.path("ca"),
        };
        let tls = ClientTls::open(door.files().unwrap().unwrap()).unwrap();
        assert_eq!(tls.engine_id().to_string(), ENGINE);
        Connector::tcp(Some(tls), false)
    }
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn start(keys: &Keys, dir: &Path, limits: Limits) -> Running {
    let asked = "127.0.0.1:0".parse().unwrap();
    let tls = keys.door().lock(asked).unwrap();
    let listening = Listening::bind(asked, dir).unwrap().locked(tls, dir).unwrap();
    let address = listening.address();
    let health = Health::new(&[]).await;
    health.set_serving(true).await;
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        let routes = tonic::service::Routes::default();
        serve(
            listening,
            routes,
            health,
            limits,
            &Meters::new(false),
            stopped,
            || (),
        )
        .await
        .unwrap();
    });
    Running {
        address,
        stop,
        served,
    }
}

impl Running {
    async fn connect(&self, keys: &Keys, name: &str) -> Result<Channel, Error> {
        let endpoint = client::endpoint(&self.address.to_string()).unwrap();
        let name = HostName::of(name, HOST.parse().unwrap()).unwrap();
        let connected = patient(keys.connector().connect(endpoint, name)).await;
        connected.map(|(channel, _)| channel)
    }

    /// Comes in and asks.
    async fn asks(&self, keys: &Keys, name: &str) {
        let channel = self.connect(keys, name).await.unwrap();
        let mut health = HealthClient::new(channel);
        patient(health.check(HealthCheckRequest::default()))
            .await
            .unwrap();
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        patient(self.served).await.unwrap();
    }
}

#[tokio::test]
async fn the_host_that_is_meant_is_spoken_to_by_either_of_its_names() {
    let (keys, dir) = (Keys::make(), TempDir::new().unwrap());
    let running = start(&keys, dir.path(), Limits::default()).await;
    for name in ["", "host-1.example", "HOST-1.example"] {
        running.asks(&keys, name).await;
    }
    let error = running.connect(&keys, "host-2.example").await.unwrap_err();
    let words = runtime::causes::causes(&error);
    for part in [HOST, "host-2.example", "is expected"] {
        assert!(words.contains(part), "{words}");
    }
    // The CA of another installation, as the client has it.
    let others = Keys::make();
    let error = running.connect(&others, "").await.unwrap_err();
    let words = runtime::causes::causes(&error);
    assert!(words.contains("no CA trusted here"), "{words}");
    running.end().await;
}

#[tokio::test]
async fn who_does_not_come_to_the_end_of_the_handshake_in_time_is_out() {
    let (keys, dir) = (Keys::make(), TempDir::new().unwrap());
    let limits = Limits {
        handshake_seconds: 1,
        ..Limits::default()
    };
    let running = start(&keys, dir.path(), limits).await;
    for begin in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]] {
        let mut slow = TcpStream::connect(running.address).await.unwrap();
        slow.write_all(begin).await.unwrap();
        let mut answer = Vec::new();
        // Closed, in whatever way.
        let _ = patient(slow.read_to_end(&mut answer)).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_crowd_that_never_ends_its_handshakes_keeps_nobody_out() {
    let (keys, dir) = (Keys::make(), TempDir::new().unwrap());
    let running = start(&keys, dir.path(), Limits::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..600 {
        let mut slow = TcpStream::connect(running.address).await.unwrap();
        // A record is announced and does not come.
        slow.write_all(&[0x16, 3, 1, 0x3f, 0xff]).await.unwrap();
        crowd.push(slow);
    }
    for _ in 0..5 {
        running.asks(&keys, "").await;
    }
    // The first of them have made room.
    let mut answer = Vec::new();
    let _ = patient(crowd.remove(0).read_to_end(&mut answer)).await;
    running.end().await;
}

#[tokio::test]
async fn a_service_that_stops_waits_for_no_handshake() {
    let (keys, dir) = (Keys::make(), TempDir::new().unwrap());
    let running = start(&keys, dir.path(), Limits::default()).await;
    let _slow = TcpStream::connect(running.address).await.unwrap();
    running.asks(&keys, "").await;
    let begun = std::time::Instant::now();
    running.end().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

//! An etcd of the distribution's package, as it comes: one member, on the disk that is measured.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tests::patience::persist;
use tests::{Context as _, Failure, TestResult};
use tokio::process::{Child, Command};
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use wire::kv_client::KvClient;
use wire::watch_client::WatchClient;
use wire::watch_request::Request;
use wire::{PutRequest, WatchCreateRequest, WatchRequest};

use crate::sightings::Sightings;

/// The wire.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]
mod wire {
    tonic::include_proto!("etcdserverpb");
}

/// Where the keys lie that are put.
const PREFIX: &str = "task/";

/// What follows all of them.
const PREFIX_END: &str = "task0";

/// The program, and the package that has it.
const PROGRAM: &str = "etcd";

/// One that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// Killed when it is dropped.
    _child: Child,
    address: SocketAddr,
}

impl Etcd {
    /// Starts one in `dir`, and returns when it takes a put.
    ///
    /// # Errors
    /// Where it is not installed or does not come up.
    pub(crate) async fn start(dir: &Path) -> TestResult<Self> {
        let (address, peer) = (free_port()?, free_port()?);
        let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peer}"));
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new(PROGRAM)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting etcd; Debian has it in the package etcd-server")?;
        let etcd = Self {
            _child: child,
            address,
        };
        persist(|| {
            let client = etcd.client();
            async move {
                let mut client = client.map_err(|failure| tonic::Status::internal(failure.to_string()))?;
                client.put(PutRequest::default_key()).await
            }
        })
        .await
        .context("etcd does not serve")?;
        Ok(etcd)
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// Where the address is none.
    pub(crate) fn client(&self) -> TestResult<KvClient<Channel>> {
        Ok(KvClient::new(self.channel()?))
    }

    /// Watches every put from now on: what is returned tells `sightings` of them.
    ///
    /// # Errors
    /// Where the watch is refused.
    pub(crate) async fn watch(
        &self,
        sightings: Arc<Sightings>,
    ) -> TestResult<impl Future<Output = ()> + Send + 'static> {
        let request = WatchRequest {
            request: Some(Request::CreateRequest(WatchCreateRequest {
                key: PREFIX.into(),
                range_end: PREFIX_END.into(),
            })),
        };
        // etcd ends the watch with the stream of requests.
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let answer = WatchClient::new(self.channel()?).watch(requests).await;
        let mut answers = answer.context("etcd's watch")?.into_inner();
        let first = answers.message().await.context("etcd's watch")?;
        first
            .filter(|first| first.created)
            .context("etcd refused the watch")?;
        Ok(async move {
            while let Ok(Some(answer)) = answers.message().await {
                for kv in answer.events.into_iter().filter_map(|event| event.kv) {
                    let key = String::from_utf8_lossy(&kv.key);
                    sightings.seen(key.strip_prefix(PREFIX).unwrap_or(&key));
                }
            }
        })
    }

    fn channel(&self) -> TestResult<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        Ok(endpoint.map_err(Failure::new)?.tcp_nodelay(true).connect_lazy())
    }
}

impl PutRequest {
    fn default_key() -> Self {
        Self {
            key: b"first".to_vec(),
            value: Vec::new(),
        }
    }
}

/// Puts a value.
///
/// # Errors
/// What etcd answers.
pub(crate) async fn put(client: &mut KvClient<Channel>, id: &str, value: Vec<u8>) -> TestResult<()> {
    let key = format!("{PREFIX}{id}").into_bytes();
    client
        .put(PutRequest { key, value })
        .await
        .context("etcd's put")?;
    Ok(())
}

/// One that nobody has just now: etcd wants to know its own beforehand.
fn free_port() -> TestResult<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
    Ok(listener.local_addr()?)
}

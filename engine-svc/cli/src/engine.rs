//! The engine, as its contract has it, over one connection.

use std::path::Path;
use std::time::{Duration, SystemTime};

use proto::engine::v1 as engine;
use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::disk_service_client::DiskServiceClient;
use proto::engine::v1::engine_service_client::EngineServiceClient;
use proto::engine::v1::event_service_client::EventServiceClient;
use proto::engine::v1::host_service_client::HostServiceClient;
use proto::engine::v1::job_service_client::JobServiceClient;
use proto::engine::v1::storage_domain_service_client::StorageDomainServiceClient;
use proto::engine::v1::task_service_client::TaskServiceClient;
use proto::engine::v1::vm_service_client::VmServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::args::Context;
use crate::failure::{Failure, innermost, is_passing};

/// Where an engine listens unless it is told otherwise.
const SERVER: &str = "127.0.0.1:54320";

/// How long an answer that is no stream may take, unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How often an idle connection is probed, so that an engine that vanished without a word is noticed.
const PROBE: Duration = Duration::from_secs(10);

/// How long to wait before a call that did not get through is made again.
const AGAIN: Duration = Duration::from_millis(250);

/// How long an engine that is not there is called again: as long as a restart takes, and no longer than a person waits gladly.
const RESTARTS: Duration = Duration::from_secs(3);

/// As many as a page may hold.
const PAGE: usize = 1000;

/// A connection that says who asks.
pub(crate) type Wire = InterceptedService<Channel, Asks>;

/// Adds to each call who asks, and what it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Asks {
    user: Option<MetadataValue<Ascii>>,
    correlation_id: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Asks {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in [("x-user", &self.user), ("x-correlation-id", &self.correlation_id)] {
            if let Some(value) = value {
                request.metadata_mut().insert(key, value.clone());
            }
        }
        Ok(request)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) server: String,
    timeout: Duration,
    wire: Wire,
}

/// Calls until an answer comes, or until the time is up: only calls that may be repeated.
macro_rules! call {
    ($engine:expr, $client:ident, $rpc:ident, $request:expr) => {{
        let request = $request;
        $engine
            .answer(|| {
                let mut client = $client::new($engine.wire());
                let request = request.clone();
                async move { client.$rpc(request).await }
            })
            .await
    }};
}
pub(crate) use call;

/// All pages of a list, up to a number of items.
macro_rules! pages {
    ($engine:expr, $client:ident, $rpc:ident, $request:expr, $items:ident, $limit:expr) => {{
        let mut request = $request;
        let mut items = Vec::new();
        loop {
            request.page_size = $crate::engine::page_size($limit, items.len());
            let answer = $crate::engine::call!($engine, $client, $rpc, request.clone())?;
            items.extend(answer.$items);
            request.page_token = answer.next_page_token;
            if $crate::engine::is_enough($limit, items.len()) || request.page_token.is_empty() {
                break Ok::<_, $crate::failure::Failure>($crate::engine::Listed {
                    items,
                    has_more: !request.page_token.is_empty(),
                });
            }
        }
    }};
}
pub(crate) use pages;

/// A list, and whether there is more of it.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) has_more: bool,
}

/// How many items the next page should have.
pub(crate) fn page_size(limit: usize, have: usize) -> i32 {
    let most = match limit {
        0 => PAGE,
        _ => limit.saturating_sub(have).clamp(1, PAGE),
    };
    i32::try_from(most).unwrap_or(i32::MAX)
}

/// Whether no further page is needed.
pub(crate) fn is_enough(limit: usize, have: usize) -> bool {
    limit > 0 && have >= limit
}

impl Engine {
    /// # Errors
    /// If the address, a certificate or a name cannot be used.
    pub(crate) fn new(context: &Context, correlation_id: Option<&str>) -> Result<Self, Failure> {
        let wrong = |what: &str, value: &str, why: &dyn std::fmt::Display| {
            Failure::Usage(format!("{what} `{value}`: {why}"))
        };
        let server = context.server.clone().unwrap_or_else(|| SERVER.to_owned());
        let tls = tls(context)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))
            .map_err(|error| wrong("--server", &server, &error))?;
        if let Some(tls) = tls {
            let refuse =
                |error| Failure::Usage(format!("--tls-ca, --tls-cert, --tls-key: {}", innermost(&error)));
            endpoint = endpoint.tls_config(tls).map_err(refuse)?;
        }
        let channel = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PROBE)
            .keep_alive_timeout(CONNECT)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let metadata = |what: &str, value: Option<&str>| match value {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| wrong(what, text, &"only printable ASCII characters may be used")),
        };
        let asks = Asks {
            user: metadata("--user", context.user.as_deref())?,
            correlation_id: metadata("--correlation-id", correlation_id)?,
        };
        Ok(Self {
            server,
            timeout: context.timeout.unwrap_or(TIMEOUT),
            wire: InterceptedService::new(channel, asks),
        })
    }

    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// Calls until an answer comes, or until the time is up.
    ///
    /// # Errors
    /// What the engine says; [`Failure::Unreachable`] if nobody answered in time.
    pub(crate) async fn answer<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begun = tokio::time::Instant::now();
        let end = begun + self.timeout;
        loop {
            let silent = || {
                Status::unavailable(format!(
                    "no answer within {}",
                    humantime::format_duration(self.timeout)
                ))
            };
            let answer = tokio::time::timeout_at(end, call()).await;
            match answer.unwrap_or_else(|_| Err(silent())) {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status)
                    if is_passing(&status) && begun.elapsed() + AGAIN < RESTARTS.min(self.timeout) =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(status) => return Err(Failure::of_call(&self.server, status)),
            }
        }
    }

    /// The id of a VM.
    ///
    /// # Errors
    /// If no VM has this name.
    pub(crate) async fn vm(&self, word: &str) -> Result<String, Failure> {
        if let Some(id) = id(word) {
            return Ok(id);
        }
        let request = engine::ListVmsRequest {
            name: word.to_owned(),
            ..Default::default()
        };
        let found = pages!(self, VmServiceClient, list_vms, request, vms, 2)?;
        the_one("VM", word, found.items.into_iter().map(|vm| vm.vm_id))
    }

    /// The id of a host.
    ///
    /// # Errors
    /// If no host has this name, or more than one.
    pub(crate) async fn host(&self, word: &str) -> Result<String, Failure> {
        if let Some(id) = id(word) {
            return Ok(id);
        }
        let request = engine::ListHostsRequest::default();
        let found = pages!(self, HostServiceClient, list_hosts, request, hosts, 0)?;
        let named = found.items.into_iter().filter(|host| host.name == word);
        the_one("host", word, named.map(|host| host.host_id))
    }

    /// The id of a storage domain.
    ///
    /// # Errors
    /// If no domain has this name, or more than one.
    pub(crate) async fn domain(&self, word: &str) -> Result<String, Failure> {
        if let Some(id) = id(word) {
            return Ok(id);
        }
        let request = engine::ListStorageDomainsRequest::default();
        let found = pages!(
            self,
            StorageDomainServiceClient,
            list_storage_domains,
            request,
            domains,
            0
        )?;
        let named = found.items.into_iter().filter(|domain| domain.name == word);
        the_one("storage domain", word, named.map(|domain| domain.domain_id))
    }

    /// The id of any entity that has a name.
    ///
    /// # Errors
    /// If nothing has this name, or more than one thing.
    pub(crate) async fn entity(&self, word: &str) -> Result<String, Failure> {
        if let Some(id) = id(word) {
            return Ok(id);
        }
        let mut found = Vec::new();
        for named in [
            self.vm(word).await,
            self.domain(word).await,
            self.host(word).await,
        ] {
            match named {
                Ok(id) => found.push(id),
                Err(Failure::NotFound(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        the_one("VM, storage domain or host", word, found.into_iter())
    }

    pub(crate) async fn command(&self, id: &str) -> Result<engine::Command, Failure> {
        let request = engine::GetCommandRequest {
            command_id: id.to_owned(),
        };
        let answer = call!(self, CommandServiceClient, get_command, request)?;
        Ok(answer.command.unwrap_or_default())
    }

    pub(crate) async fn job(&self, id: &str) -> Result<engine::Job, Failure> {
        let request = engine::GetJobRequest {
            job_id: id.to_owned(),
        };
        let answer = call!(self, JobServiceClient, get_job, request)?;
        Ok(answer.job.unwrap_or_default())
    }

    pub(crate) async fn task(&self, id: &str) -> Result<engine::AsyncTask, Failure> {
        let request = engine::GetTaskRequest {
            task_id: id.to_owned(),
        };
        let answer = call!(self, TaskServiceClient, get_task, request)?;
        Ok(answer.task.unwrap_or_default())
    }

    pub(crate) async fn disk(&self, id: &str) -> Result<engine::Disk, Failure> {
        let request = engine::GetDiskRequest {
            disk_id: id.to_owned(),
        };
        let answer = call!(self, DiskServiceClient, get_disk, request)?;
        Ok(answer.disk.unwrap_or_default())
    }

    pub(crate) async fn get_host(&self, id: &str) -> Result<engine::Host, Failure> {
        let request = engine::GetHostRequest {
            host_id: id.to_owned(),
        };
        let answer = call!(self, HostServiceClient, get_host, request)?;
        Ok(answer.host.unwrap_or_default())
    }

    pub(crate) async fn get_vm(&self, id: &str) -> Result<engine::GetVmResponse, Failure> {
        let request = engine::GetVmRequest { vm_id: id.to_owned() };
        call!(self, VmServiceClient, get_vm, request)
    }

    pub(crate) async fn get_domain(&self, id: &str) -> Result<engine::StorageDomain, Failure> {
        let request = engine::GetStorageDomainRequest {
            domain_id: id.to_owned(),
        };
        let answer = call!(self, StorageDomainServiceClient, get_storage_domain, request)?;
        Ok(answer.domain.unwrap_or_default())
    }

    /// The engine itself.
    ///
    /// # Errors
    /// As of every call.
    pub(crate) async fn info(&self) -> Result<engine::EngineInfo, Failure> {
        let request = engine::GetEngineInfoRequest::default();
        let answer = call!(self, EngineServiceClient, get_engine_info, request)?;
        Ok(answer.engine.unwrap_or_default())
    }

    /// Who asks, as the engine sees it.
    ///
    /// # Errors
    /// As of every call.
    pub(crate) async fn who_am_i(&self) -> Result<engine::WhoAmIResponse, Failure> {
        call!(
            self,
            EngineServiceClient,
            who_am_i,
            engine::WhoAmIRequest::default()
        )
    }

    pub(crate) async fn hosts(&self, limit: usize) -> Result<Listed<engine::Host>, Failure> {
        let request = engine::ListHostsRequest::default();
        pages!(self, HostServiceClient, list_hosts, request, hosts, limit)
    }

    pub(crate) async fn jobs(
        &self,
        filter: engine::list_jobs_request::Filter,
        limit: usize,
    ) -> Result<Listed<engine::Job>, Failure> {
        let request = engine::ListJobsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        pages!(self, JobServiceClient, list_jobs, request, jobs, limit)
    }

    pub(crate) async fn commands(
        &self,
        filter: engine::list_commands_request::Filter,
        limit: usize,
    ) -> Result<Listed<engine::Command>, Failure> {
        let request = engine::ListCommandsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        pages!(
            self,
            CommandServiceClient,
            list_commands,
            request,
            commands,
            limit
        )
    }

    pub(crate) async fn events(
        &self,
        filter: engine::list_events_request::Filter,
        limit: usize,
    ) -> Result<Listed<engine::Event>, Failure> {
        let request = engine::ListEventsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        pages!(self, EventServiceClient, list_events, request, events, limit)
    }
}

/// What a connection over TLS needs, if it is to be one.
fn tls(context: &Context) -> Result<Option<ClientTlsConfig>, Failure> {
    let (ca, cert, key) = match (&context.tls_ca, &context.tls_cert, &context.tls_key) {
        (None, None, None) => return Ok(None),
        (Some(ca), Some(cert), Some(key)) => (ca, cert, key),
        (ca, cert, key) => {
            let settings = [("--tls-ca", ca), ("--tls-cert", cert), ("--tls-key", key)];
            let missing = settings.into_iter().filter(|(_, file)| file.is_none());
            let missing: Vec<&str> = missing.map(|(setting, _)| setting).collect();
            return Err(Failure::Usage(format!(
                "{} is missing: TLS needs --tls-ca, --tls-cert and --tls-key",
                missing.join(" and ")
            )));
        }
    };
    let read = |setting: &str, file: &Path| {
        std::fs::read(file).map_err(|error| Failure::Usage(format!("{setting} {}: {error}", file.display())))
    };
    let identity = Identity::from_pem(read("--tls-cert", cert)?, read("--tls-key", key)?);
    let ca = Certificate::from_pem(read("--tls-ca", ca)?);
    Ok(Some(ClientTlsConfig::new().ca_certificate(ca).identity(identity)))
}

/// The word as an id, in the contract's spelling, if it is one.
pub(crate) fn id(word: &str) -> Option<String> {
    Uuid::try_parse(word).ok().map(|id| id.to_string())
}

/// The word as an id.
///
/// # Errors
/// If it is none: what has no name is known by its id alone.
pub(crate) fn only_id(kind: &str, word: &str) -> Result<String, Failure> {
    id(word).ok_or_else(|| {
        Failure::Usage(format!(
            "`{word}` is not the ID of a {kind}: an ID is a UUID, as `taskctl {kind} list` prints it"
        ))
    })
}

/// A fresh id, by which a request can be repeated.
pub(crate) fn fresh_id() -> String {
    Uuid::new_v4().to_string()
}

/// A duration as the wire has it.
pub(crate) fn wire_duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

/// For how long something has been so.
pub(crate) fn lasts(since: Option<&prost_types::Timestamp>) -> String {
    crate::words::lasts(since, SystemTime::now())
}

fn the_one(kind: &str, word: &str, found: impl Iterator<Item = String>) -> Result<String, Failure> {
    let found: Vec<_> = found.collect();
    match found.as_slice() {
        [] => Err(Failure::NotFound(format!("there is no {kind} named `{word}`"))),
        [one] => Ok(one.clone()),
        several => Err(Failure::NotFound(format!(
            "more than one {kind} is named `{word}`: give the ID, one of {}",
            several.join(", ")
        ))),
    }
}

//! Clients use up a service's open files: what the service keeps for itself, and what it does when none is left.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::host::v1::GetHostInfoRequest;
use proto::task::v1::operation::Verb;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tests::client::Host;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::patience::eventually;
use tests::programs::{program, write_script};
use tests::requests;
use tests::watch::{HostTasks, Selection, Start, Watch as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Open files that the service may have: 200 of them are kept for the store and for storage.
const FILES: u64 = 400;

/// The number of connections: more than there are files.
const CROWD: usize = 500;

/// The log line that says that no connection can be accepted.
const LINE: &str = "cannot accept connections for now";

/// A host that may have this many open files, from its start on.
async fn with_files(folder: &Path, files: u64) -> TestResult<LoneHost> {
    let script = folder.join("few-files");
    let service = program("vdsm-svc")?;
    let text = format!(
        "#!/bin/sh\nulimit -n {files}\nexec '{}' \"$@\"\n",
        service.display()
    );
    write_script(&script, &text).await?;
    LoneHost::start_program(folder, &script).await
}

/// Checks what a client gets from a host that is well: an answer, its health, and a volume that is made on storage
/// and recorded.
async fn is_well(host: &LoneHost, domain_id: &str) -> TestResult<()> {
    let mut client = host.client.host.clone();
    let info = client.get_host_info(GetHostInfoRequest::default()).await;
    info.context("GetHostInfo")?;
    let mut health = HealthClient::new(host.client.channel.clone());
    let answer = health
        .check(HealthCheckRequest::default())
        .await
        .context("health")?;
    ensure(answer.get_ref().status() == ServingStatus::Serving, || {
        format!("{answer:?}")
    })?;
    let volume = requests::create_volume(domain_id, requests::KINDS[0]);
    let made = host
        .client
        .run(&requests::start_task(Verb::CreateVolume(volume)))
        .await?;
    ensure(made.fault.is_none(), || format!("{made:?}"))
}

fn limit(pid: Pid, current: u64) -> TestResult<()> {
    let limit = Rlimit {
        current: Some(current),
        maximum: Some(FILES),
    };
    prlimit(Some(pid), Resource::Nofile, limit)
        .map(drop)
        .map_err(Failure::new)
}

/// The number of such lines in the host's log.
fn lines(host: &LoneHost) -> usize {
    host.service
        .log_tail(usize::MAX)
        .lines()
        .filter(|line| line.contains(LINE))
        .count()
}

/// The processor time that a process has used, in hundredths of a second.
fn used(pid: Pid) -> TestResult<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    let (_, fields) = text.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
    Ok(ticks(11).context("no user time")? + ticks(12).context("no system time")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_use_up_their_files_leave_those_of_the_store_and_of_storage() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let host = with_files(folder.path(), FILES).await?;
    let domain_id = host.client.create_domain().await?;
    is_well(&host, &domain_id).await?;
    // Each connection has a call, so none of them makes room for another, nor for later ones.
    let everything = Selection::default();
    let _own = HostTasks::open(host.client.channel.clone(), Start::Now, &everything).await?;
    let mut watches = Vec::new();
    let mut refused = 0;
    for number in 0..CROWD {
        // From several addresses: one address gets at most half of all connections.
        let last = u8::try_from(number % 3).unwrap_or_default() + 1;
        let channel = Endpoint::from_shared(format!("http://{}", host.service.address()))?
            .local_address(Some(IpAddr::from([127, 0, 1, last])))
            .connect_lazy();
        match HostTasks::open(channel, Start::Now, &everything).await {
            Ok(mut watch) => match watch.next().await.context("a frame")? {
                Ok(_) => watches.push(watch),
                Err(_) => refused += 1,
            },
            Err(_) => refused += 1,
        }
    }
    ensure(refused > 0 && watches.len() > 150, || {
        format!("{} watches, {refused} refused", watches.len())
    })?;
    for _ in 0..3 {
        is_well(&host, &domain_id).await?;
    }
    ensure(lines(&host) == 0, || host.service.log_tail(20))?;
    drop(watches);
    let address = host.service.address();
    eventually("a connection to be taken again", || async move {
        let client = Host::at(address).ok()?;
        let mut host = client.host;
        host.get_host_info(GetHostInfoRequest::default()).await.ok()
    })
    .await?;
    is_well(&host, &domain_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_free_file_waits_tells_it_and_goes_on_when_there_is_one() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let host = with_files(folder.path(), FILES).await?;
    let domain_id = host.client.create_domain().await?;
    is_well(&host, &domain_id).await?;
    let pid = host.service.pid().context("it does not run")?;
    // With a call, so that the connection does not make room.
    let everything = Selection::default();
    let mut watch = HostTasks::open(host.client.channel.clone(), Start::Now, &everything).await?;
    watch.next().await.context("a frame")??;
    // Fewer than are open: no number below the limit is free.
    limit(pid, 3)?;
    let (before, since) = (used(pid)?, Instant::now());
    let waiting = TcpStream::connect(host.service.address()).await?;
    // The service logs it at once, and again after a while, but not at each of the hundred attempts in between.
    eventually("the second line", || async {
        let info = GetHostInfoRequest::default();
        let served = host.client.host.clone().get_host_info(info).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        (served.is_err() || lines(&host) > 1).then_some(served)
    })
    .await?
    .context("who was connected is served")?;
    let (took, told) = (since.elapsed(), lines(&host));
    ensure(told == 2, || format!("{told} lines in {took:?}"))?;
    // A loop without a pause would use up a processor.
    let busy = Duration::from_millis((used(pid)? - before) * 10);
    ensure(busy < took / 5, || format!("{busy:?} of {took:?} at work"))?;
    limit(pid, FILES)?;
    drop(waiting);
    let fresh = Host::at(host.service.address())?;
    eventually("a connection to be taken again", || async {
        let mut host = fresh.host.clone();
        match host.get_host_info(GetHostInfoRequest::default()).await {
            Ok(_) => Some(()),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                None
            }
        }
    })
    .await?;
    is_well(&host, &domain_id).await
}

//! `StartTask` per second on a real host, against a bare unary tonic server in front of redb's group commit.
//!
//! *Ours*: `vdsm-svc` with an empty data directory; the operation is `noop`, so that accepting a task, its edges
//! and their commits are all there is. *Bare*: a process that decodes the same request, hands it to one thread that
//! commits what waits, and answers: the same messages, records, tables and settings, and nothing in between: no
//! metadata, no validation, no admission, no state machine, no log, no watchers. Both are driven alike: so many
//! calls in flight, each followed by the next as soon as its answer is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::host::v1::GetHostInfoRequest;
use proto::host::v1::task_service_client::TaskServiceClient;
use proto::task::v1::Noop;
use proto::task::v1::operation::Verb;
use tests::client::Host;
use tests::fail_point::FailPoints;
use tests::ids::fresh;
use tests::patience::persist;
use tests::requests;
use tests::service::{Recipe, Service};
use tests::world::host_recipe;
use tests::{Context as _, Failure, TestResult};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};

const IN_FLIGHT: [usize; 4] = [1, 8, 64, 256];

const TARGET: Target = Target::RatioAtLeast(0.85);

/// Not counted: connections are made, caches fill.
pub(super) const WARM_UP: Duration = Duration::from_millis(250);

/// The time for which calls are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// So high that the door does not close: tasks come in faster than eight at a time can be run.
const QUEUE_LIMIT: &str = "1000000";

/// Calls that share a connection.
const PER_CONNECTION: usize = 64;

/// A line for each number of calls in flight.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        let rounds = bench.alternate(async |bench, _| {
            let ours = rate_of_host(bench, in_flight).await?;
            let bare = rate_of_bare(bench, in_flight).await?;
            Ok((ours, bare))
        });
        let name = format!("front door, {in_flight} in flight");
        let figures = |sample: &(f64, f64)| (sample.0, Some(sample.1));
        rows.push(Row::new(
            name,
            Unit::PerSecond,
            Some(TARGET),
            &rounds.await?,
            figures,
        ));
    }
    Ok(rows)
}

async fn rate_of_host(bench: &mut Bench, in_flight: usize) -> TestResult<f64> {
    let (mut host, dir) = start_host(bench).await?;
    let rate = rate(host.address(), in_flight).await?;
    host.kill().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
}

/// A real host that serves, and the folder of all that it writes.
///
/// # Errors
/// Where it does not come up.
pub(super) async fn start_host(bench: &mut Bench) -> TestResult<(Service, PathBuf)> {
    let dir = bench.fresh_dir("front-door-ours")?;
    std::fs::create_dir(dir.join("storage"))?;
    let mut recipe = host_recipe(&dir, any_port(), &fresh())?;
    recipe
        .arguments
        .extend(["--queue-limit", QUEUE_LIMIT].map(Into::into));
    let mut host = Service::new(recipe);
    let client = Host::at(host.start(&FailPoints::default()).await?)?;
    persist(|| {
        let mut host = client.host.clone();
        async move { host.get_host_info(GetHostInfoRequest::default()).await }
    })
    .await
    .context("the host does not serve")?;
    Ok((host, dir))
}

async fn rate_of_bare(bench: &mut Bench, in_flight: usize) -> TestResult<f64> {
    let mut bare = start_bare(bench)?;
    let address = bare.start(&FailPoints::default()).await?;
    let rate = rate(address, in_flight).await?;
    bare.kill().await?;
    std::fs::remove_dir_all(&bare.recipe().data_dir)?;
    Ok(rate)
}

/// The program `bare`; not started yet.
///
/// # Errors
/// Where it cannot be prepared.
pub(super) fn start_bare(bench: &mut Bench) -> TestResult<Service> {
    bare_with(bench, &[])
}

/// The same, with arguments of its own.
///
/// # Errors
/// Where it cannot be prepared.
pub(super) fn bare_with(bench: &mut Bench, arguments: &[&str]) -> TestResult<Service> {
    let dir = bench.fresh_dir("bare")?;
    Ok(Service::new(Recipe {
        name: "bare parts",
        program: tests::programs::program("bare")?,
        arguments: arguments.iter().map(Into::into).collect(),
        listen: any_port(),
        log: dir.join("log"),
        data_dir: dir,
    }))
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Calls answered per second, with so many always in flight.
async fn rate(address: SocketAddr, in_flight: usize) -> TestResult<f64> {
    let call = |mut client: TaskServiceClient<Channel>| async move {
        let request = requests::start_task(Verb::Noop(Noop {}));
        client.start_task(request).await.context("StartTask").map(drop)
    };
    drive(in_flight, WINDOW, || Ok(Host::at(address)?.tasks), call).await
}

/// Keeps so many calls in flight, each caller's next one as soon as its last is answered: how many a second were
/// answered in the window, after the warm-up.
///
/// # Errors
/// The first failure of a call.
pub(super) async fn drive<C, F>(
    in_flight: usize,
    window: Duration,
    connect: impl Fn() -> TestResult<C>,
    call: impl Fn(C) -> F + Clone + Send + Sync + 'static,
) -> TestResult<f64>
where
    C: Clone + Send + Sync + 'static,
    F: Future<Output = TestResult<()>> + Send + 'static,
{
    let begin = Instant::now() + WARM_UP;
    let mut callers = JoinSet::new();
    let mut left = in_flight;
    while left > 0 {
        let client = connect()?;
        let here = left.min(PER_CONNECTION);
        for _ in 0..here {
            callers.spawn(count(client.clone(), call.clone(), begin..begin + window));
        }
        left -= here;
    }
    let mut answered = 0;
    while let Some(count) = callers.join_next().await {
        answered += count.map_err(Failure::new)??;
    }
    Ok(answered as f64 / window.as_secs_f64())
}

/// One caller: how many of its calls were answered in the window.
async fn count<C: Clone, F: Future<Output = TestResult<()>>>(
    client: C,
    call: impl Fn(C) -> F,
    window: Range<Instant>,
) -> TestResult<usize> {
    let mut answered = 0;
    loop {
        call(client.clone()).await?;
        let now = Instant::now();
        if now >= window.end {
            return Ok(answered);
        }
        answered += usize::from(now >= window.start);
    }
}

//! Whatever happens to stderr, a service answers, and ends when it is told to.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::engine::v1::ListHostsRequest;
use proto::host::v1::GetHostInfoRequest;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::ioctl_fionread;
use rustix::process::Signal;
use tests::client::{Engine, Host};
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::ids::{fresh, fresh_loopback};
use tests::patience::{eventually, persist};
use tests::service::{Recipe, Service};
use tests::world::{engine_recipe, host_recipe};
use tokio::process::Command;

/// At this level a call writes some dozens of lines.
const LEVEL: &str = "trace";

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// How long an end may take: 5 s for open calls, and the rest of the program's end. Supervisors kill after 10 s at
/// the earliest.
const END: Duration = Duration::from_secs(10);

/// A pipe that the test reads when it wants to.
struct Pipe(File);

impl Pipe {
    fn make(path: &Path) -> TestResult<Self> {
        mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).map_err(std::io::Error::from)?;
        // Open at both ends, so that neither opening the pipe for writing nor writing to it ever fails.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let both = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        Ok(Self(both))
    }

    fn waiting(&self) -> TestResult<u64> {
        ioctl_fionread(&self.0).map_err(|error| Failure::new(format!("looking at the pipe: {error}")))
    }

    /// Reads the available bytes.
    fn read(&mut self) -> TestResult<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        match self.0.read(&mut bytes) {
            Ok(read) => bytes.truncate(read),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bytes.clear(),
            Err(error) => return Err(error.into()),
        }
        Ok(bytes)
    }

    /// Reads until a line says how many lines are missing.
    async fn gap(&mut self) -> TestResult<u64> {
        let mut text = Vec::new();
        eventually("the log to say what was dropped", || {
            let read = self.read();
            let found = read.map(|bytes| {
                text.extend(bytes);
                dropped(&text)
            });
            std::future::ready(found.unwrap_or_default())
        })
        .await
    }
}

/// The count in the first line about dropped lines.
fn dropped(log: &[u8]) -> Option<u64> {
    let log = String::from_utf8_lossy(log);
    let (_, after) = log.split_once("stderr was not read fast enough")?;
    let (line, _) = after.split_once('\n')?;
    line.split_once("dropped=")?.1.trim().parse().ok()
}

/// A client of the service under test.
enum Client {
    Engine(Box<Engine>),
    Host(Box<Host>),
}

impl Client {
    /// One call.
    async fn call(&self) -> TestResult<()> {
        let answer = async {
            match self {
                Self::Engine(engine) => {
                    let answer = persist(|| {
                        let mut hosts = engine.hosts.clone();
                        async move { hosts.list_hosts(ListHostsRequest::default()).await }
                    });
                    answer.await.map(drop)
                }
                Self::Host(host) => {
                    let answer = persist(|| {
                        let mut host = host.host.clone();
                        async move { host.get_host_info(GetHostInfoRequest::default()).await }
                    });
                    answer.await.map(drop)
                }
            }
        };
        let answer = tokio::time::timeout(ANSWER, answer).await;
        let late = |_| Failure::new(format!("a call is without an answer for {ANSWER:?}"));
        answer.map_err(late)?.context("a call")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_log_nobody_reads_answers_and_ends() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let listen = SocketAddr::new(IpAddr::V4(fresh_loopback()), 0);
    let recipe = engine_recipe(folder.path(), listen)?;
    unread(recipe, |address| {
        Engine::at(address).map(Box::new).map(Client::Engine)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_log_nobody_reads_answers_and_ends() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("storage"))?;
    let listen = SocketAddr::new(IpAddr::V4(fresh_loopback()), 0);
    let recipe = host_recipe(folder.path(), listen, &fresh())?;
    unread(recipe, |address| {
        Host::at(address).map(Box::new).map(Client::Host)
    })
    .await
}

async fn unread(recipe: Recipe, client: impl Fn(SocketAddr) -> TestResult<Client>) -> TestResult<()> {
    let mut pipe = Pipe::make(&recipe.log)?;
    let mut service = Service::new(recipe);
    service.set_variable("RUST_LOG", LEVEL);
    let client = client(service.start(&FailPoints::default()).await?)?;
    // First the pipe fills, then the queue behind it; after that lines are missing.
    let mut before = 0;
    while before == 0 || pipe.waiting()? > before {
        before = pipe.waiting()?;
        for _ in 0..100 {
            client.call().await?;
        }
    }
    for _ in 0..2_000 {
        client.call().await?;
    }
    is_healthy(&service).await?;
    ensure(pipe.gap().await? > 0, || "nothing was dropped".to_owned())?;
    // The queue holds more than the pipe, so the pipe is full again.
    let end = Instant::now();
    service.signal(Signal::TERM)?;
    let status = service.ended().await?;
    let took = end.elapsed();
    ensure(status.is_some_and(|status| status.success()), || {
        format!("{status:?}")
    })?;
    ensure(took < END, || format!("the end took {took:?}"))
}

/// The question that a container's health check asks.
async fn is_healthy(service: &Service) -> TestResult<()> {
    let recipe = service.recipe();
    let mut asking = Command::new(&recipe.program);
    asking
        .args(&recipe.arguments)
        .arg("--health")
        .arg("--data-dir")
        .arg(&recipe.data_dir);
    let answer = tokio::time::timeout(ANSWER, asking.output()).await;
    let answer = answer.map_err(|_| Failure::new("the health check does not end"))??;
    ensure(answer.status.success(), || {
        format!("not healthy: {}", String::from_utf8_lossy(&answer.stderr))
    })
}

/// People judge an end by the last lines.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_of_an_end_are_in_the_log() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let listen = SocketAddr::new(IpAddr::V4(fresh_loopback()), 0);
    let mut service = Service::new(engine_recipe(folder.path(), listen)?);
    let address = service.start(&FailPoints::default()).await?;
    // A service that answers has set up its signals.
    Client::Engine(Box::new(Engine::at(address)?)).call().await?;
    service.stop().await?;
    let log = service.log_tail(5);
    ensure(log.contains("SIGTERM: stopping"), || log)
}

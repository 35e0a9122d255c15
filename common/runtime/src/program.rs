//! What both programs do besides serving.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use common::fault::Fault;
use store::data_dir::{self, ADDRESS, BACKUP, HEALTH, METRICS_ADDRESS};
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::causes::causes;
use crate::settings::Given;
use crate::{client, server, settings, threads};

/// How long a service may take to answer: shorter than the time after which container tools give up by default (30 s),
/// so that the reason is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are read of the file that holds an address: more than any has.
const ADDRESS_BYTES: u64 = 256;

/// Why a service is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// The data directory is not there.
    #[error(
        "there is no data directory {}: it was moved or removed, or --data-dir names another one; whether a service still runs over it, only its log and its port can say",
        .0.display()
    )]
    NoDirectory(PathBuf),
    /// The file that says where the service listens is not there.
    #[error(
        "no service runs over this data directory, or it was put in the place of the one that a service runs over: {} cannot be read",
        .0.display()
    )]
    NoAddress(PathBuf, #[source] io::Error),
    /// The file says something else.
    #[error("{} holds {:?}, which is not an address; restart the service", .0.display(), .1)]
    WrongAddress(PathBuf, String),
    /// The address cannot be used.
    #[error("the service cannot be reached: {0}")]
    Endpoint(Fault),
    /// The service does not answer.
    #[error("the service at {0} cannot be reached")]
    Unreachable(SocketAddr, #[source] tonic::transport::Error),
    /// The answer is an error.
    #[error("the service at {0} does not report its health")]
    Refused(SocketAddr, #[source] Box<Status>),
    /// There was no answer in time.
    #[error("the service at {0} did not answer within {PATIENCE:?}")]
    Late(SocketAddr),
    /// Nobody answers at the socket, which is there where TLS is set up.
    #[error("no service listens over {}", .0.display())]
    NoSocket(PathBuf, #[source] io::Error),
    /// It does not answer there in time.
    #[error("the service over {} does not answer within {PATIENCE:?}", .0.display())]
    Hangs(PathBuf),
    /// It is still loading, or has stopped serving.
    #[error("the service over {} answers that it does not serve: it is loading, or stopping", .0.display())]
    DoesNotServe(PathBuf),
    /// It is still loading, or has stopped serving.
    #[error("the service at {0} answers {1}: it is loading, or stopping")]
    NotServing(SocketAddr, ServingStatus),
}

/// The end of `--check-config`: prints what the service would run with, or why it would not.
pub fn checked<E: std::error::Error + 'static>(given: &Given, outcome: Result<(), E>) -> ExitCode {
    let problem = match outcome {
        Ok(()) => match given.print() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(problem) => problem.to_string(),
        },
        Err(problem) => causes(&problem).to_string(),
    };
    eprintln!("error: {}", crate::telemetry::escaped(&problem));
    ExitCode::from(2)
}

/// `--health`, if the arguments have it: needs no other setting than the data directory.
pub fn health_command<T: CommandFactory>(prefix: &str) -> Option<ExitCode> {
    let data_dir = settings::health::<T>(prefix).unwrap_or_else(|error| error.exit())?;
    Some(match threads::runtime() {
        Ok(tokio) => tokio.block_on(health(&data_dir)),
        Err(problem) => {
            eprintln!("no threads can be started: {problem}");
            ExitCode::FAILURE
        }
    })
}

/// `--health`: asks the service that runs over this data directory, in another process, whether it serves. Prints the
/// reason where it does not; for container tools, which have no shell here to ask with. One that is locked is asked at
/// a socket in the directory, for who asks has no certificate.
pub async fn health(data_dir: &Path) -> ExitCode {
    let answer = match data_dir.join(HEALTH).exists() {
        // One that was killed leaves its socket there, and the next one need not be locked.
        true => match ask_at_socket(data_dir).await {
            Err(Unhealthy::NoSocket(..)) => ask(data_dir).await,
            answer => answer,
        },
        false => ask(data_dir).await,
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{}", causes(&reason));
            ExitCode::FAILURE
        }
    }
}

async fn ask_at_socket(data_dir: &Path) -> Result<(), Unhealthy> {
    match tokio::time::timeout(PATIENCE, server::ask(data_dir)).await {
        Err(_) => Err(Unhealthy::Hangs(data_dir.to_owned())),
        Ok(Err(error)) => Err(Unhealthy::NoSocket(data_dir.to_owned(), error)),
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Unhealthy::DoesNotServe(data_dir.to_owned())),
    }
}

async fn ask(data_dir: &Path) -> Result<(), Unhealthy> {
    if !data_dir.is_dir() {
        return Err(Unhealthy::NoDirectory(data_dir.to_owned()));
    }
    let address = address(&data_dir.join(ADDRESS))?;
    match tokio::time::timeout(PATIENCE, status(address)).await {
        Err(_) => Err(Unhealthy::Late(address)),
        Ok(Err(reason)) => Err(reason),
        Ok(Ok(ServingStatus::Serving)) => Ok(()),
        Ok(Ok(status)) => Err(Unhealthy::NotServing(address, status)),
    }
}

async fn status(address: SocketAddr) -> Result<ServingStatus, Unhealthy> {
    let endpoint = client::endpoint(&address.to_string()).map_err(Unhealthy::Endpoint)?;
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|error| Unhealthy::Unreachable(address, error))?;
    // The empty name is the server as a whole.
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    let answer = answer.map_err(|status| Unhealthy::Refused(address, Box::new(status)))?;
    Ok(match answer.into_inner().status() {
        tonic_health::pb::health_check_response::ServingStatus::Serving => ServingStatus::Serving,
        tonic_health::pb::health_check_response::ServingStatus::NotServing => ServingStatus::NotServing,
        _ => ServingStatus::Unknown,
    })
}

/// Where it listens, as seen from this machine: one that listens everywhere is reached by loopback.
fn address(file: &Path) -> Result<SocketAddr, Unhealthy> {
    let text =
        data_dir::read(file, ADDRESS_BYTES).map_err(|error| Unhealthy::NoAddress(file.to_owned(), error))?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    let mut address: SocketAddr = text
        .parse()
        .map_err(|_| Unhealthy::WrongAddress(file.to_owned(), text.chars().take(80).collect()))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// After an orderly end nothing listens where the file in the data directory says.
pub fn forget_address(data_dir: &Path) {
    for file in [ADDRESS, BACKUP, HEALTH, METRICS_ADDRESS] {
        // Where it cannot be removed, it is as after a crash: the next start does that.
        let _ = std::fs::remove_file(data_dir.join(file));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn said(text: &str) -> Result<SocketAddr, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(ADDRESS);
        fs::write(&file, text).unwrap();
        address(&file).map_err(|reason| reason.to_string())
    }

    #[test]
    fn a_service_that_listens_everywhere_is_asked_by_loopback() {
        assert_eq!(said("0.0.0.0:54321\n").unwrap().to_string(), "127.0.0.1:54321");
        assert_eq!(said("[::]:1\n").unwrap().to_string(), "[::1]:1");
        assert_eq!(said("192.0.2.7:1\n").unwrap().to_string(), "192.0.2.7:1");
        assert!(said("somewhere\n").unwrap_err().contains("\"somewhere\""));
    }

    #[tokio::test]
    async fn where_no_service_runs_none_is_healthy() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(ask(folder.path()).await, Err(Unhealthy::NoAddress(..))));
        let moved = ask(&folder.path().join("moved")).await.unwrap_err();
        assert!(
            matches!(moved, Unhealthy::NoDirectory(_)) && moved.to_string().contains("moved"),
            "{moved}"
        );
        // A port that was free an instant ago.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let free = taken.local_addr().unwrap();
        fs::write(folder.path().join(ADDRESS), free.to_string()).unwrap();
        drop(taken);
        assert!(matches!(
            ask(folder.path()).await,
            Err(Unhealthy::Unreachable(..))
        ));
        assert_eq!(health(folder.path()).await, ExitCode::FAILURE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_is_told_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        fs::write(
            folder.path().join(ADDRESS),
            silent.local_addr().unwrap().to_string(),
        )
        .unwrap();
        assert!(matches!(ask(folder.path()).await, Err(Unhealthy::Late(_))));
    }
}

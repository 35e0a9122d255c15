//! The host's settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use common::id::HostId;
use runtime::audit::AuditSettings;
use runtime::coordinator::Retention;
use runtime::metrics::MetricsSettings;
use runtime::server;
use runtime::telemetry::LogFormat;
use runtime::tls::Door;
use runtime::watch::{MAX_AGE, Terms};
use vdsm_core::Limits;
use vdsm_storage::confine::{Confiner, StorageUser};
use vdsm_storage::qemu_img::NO_PROGRESS_TIMEOUT;

/// The prefix of the environment variables.
pub const PREFIX: &str = "VDSM_SVC";

/// The interval between services; clients that want fewer heartbeats on a quiet stream say so.
const HEARTBEAT: Duration = Duration::from_secs(5);

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Runs storage operations on this host's file storage domains, and streams each of their changes.
///
/// A flag overrides its variable in the environment, and the variable overrides the file that --config names (TOML,
/// with the flags' names and underscores). RUST_LOG filters the log, for example RUST_LOG=vdsm_svc=debug,info.
#[derive(Debug, Clone, Parser)]
#[command(name = "vdsm-svc", version, after_help = runtime::offline::HELP)]
pub struct Settings {
    /// Address and port to serve on. Port 0 takes a free port, and the file `address` in the data directory names it.
    /// An address that is not loopback requires TLS (--tls-cert) or --insecure.
    #[arg(long, default_value = "127.0.0.1:54321", value_name = "ADDRESS", value_parser = runtime::settings::listen_address)]
    pub listen: SocketAddr,

    /// Directory of the service's own store; created if it does not exist. It must be on a local file system that
    /// honours fsync.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Directory that holds the storage domains; created if it does not exist and its parent does.
    #[arg(long, value_name = "DIR")]
    pub storage_root: PathBuf,

    /// UUID of this host. Keep it in the configuration, not in the data directory: it outlives that directory.
    #[arg(long, value_name = "UUID", value_parser = host_id)]
    pub host_id: HostId,

    /// Ask the service that runs on this data directory whether it serves (grpc.health.v1), and exit: with 0 if it
    /// does, otherwise with 1 and the reason. For health checks of containers.
    #[arg(long)]
    pub health: bool,

    /// Release the host, whichever engine or start of an engine has it, print what was done, and exit. Works only
    /// while the service is stopped. For a host whose engine is gone for good; a living engine takes a host over
    /// online.
    #[arg(long)]
    pub release_host: bool,

    /// The format of the log lines on stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,

    /// Operations that run at once on this host.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = count(1, 10_000))]
    pub running_per_host: usize,

    /// Operations that run at once on one storage domain.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = count(1, 10_000))]
    pub running_per_domain: usize,

    /// Maximum number of tasks that wait for their turn; a further one is refused at once with QUEUE_FULL.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = count(1, 1_000_000))]
    pub queue_limit: usize,

    /// Days of history after which watchers can still resume.
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub history_days: u64,

    /// Number of latest revisions from which watchers can resume, however old these are.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub history_revisions: u64,

    /// Days for which a cleared task is kept; a task id must not be used again before.
    #[arg(long, default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(30..=3_650))]
    pub cleared_days: u64,

    /// Days after which a task that is over is cleared automatically, if no engine started it.
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub unowned_days: u64,

    /// Seconds after which the host ends a watch regularly, give or take a tenth; the client then resumes.
    #[arg(long, default_value_t = MAX_AGE.as_secs(), value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub max_watch_seconds: u64,

    /// MiB of memory for pages of the store.
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = count(1, 1 << 20))]
    pub cache_mib: usize,

    /// Seconds for which a task's process may move no byte before it is stopped and the task fails with NO_PROGRESS.
    #[arg(long, default_value_t = NO_PROGRESS_TIMEOUT.as_secs(), value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub no_progress_timeout: u64,

    /// The qemu-img program, version 7.2 or later.
    #[arg(long, default_value = "qemu-img", value_name = "PATH")]
    pub qemu_img: PathBuf,

    /// Access to the service.
    #[command(flatten)]
    pub door: Door,

    /// Limits for clients.
    #[command(flatten)]
    pub wire: server::Limits,

    /// Metrics.
    #[command(flatten)]
    pub metrics: MetricsSettings,

    /// The audit log.
    #[command(flatten)]
    pub audit: AuditSettings,

    /// Owner of everything on storage, as numbers. If the service is root, the files that it makes there belong to
    /// this user, and qemu-img runs as this user; otherwise the owner is the service's own user.
    #[arg(long, default_value_t = StorageUser::default(), value_name = "UID:GID")]
    pub storage_user: StorageUser,

    /// The program that confines qemu-img: this one by default. For tests, in whose programs the service runs.
    #[arg(long, hide = true, value_name = "PATH")]
    pub confiner: Option<PathBuf>,
}

impl Settings {
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            running_per_host: self.running_per_host,
            running_per_domain: self.running_per_domain,
            queue: self.queue_limit,
        }
    }

    pub(crate) const fn no_progress_timeout(&self) -> Duration {
        Duration::from_secs(self.no_progress_timeout)
    }

    /// The directory in which tasks' processes are recorded.
    pub(crate) fn runs(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    pub(crate) fn confiner(&self) -> Confiner {
        self.confiner
            .clone()
            .map_or_else(Confiner::this_program, Confiner::program)
    }

    /// The terms of every watch.
    pub(crate) const fn watch_terms(&self) -> Terms {
        Terms {
            heartbeat: HEARTBEAT,
            max_age: Duration::from_secs(self.max_watch_seconds),
        }
    }

    pub(crate) const fn retention(&self) -> Retention {
        Retention {
            max_age: days(self.history_days),
            max_revisions: self.history_revisions,
        }
    }
}

/// A number of days.
pub(crate) const fn days(days: u64) -> Duration {
    Duration::from_secs(days * SECONDS_PER_DAY)
}

fn host_id(text: &str) -> Result<HostId, String> {
    common::id::in_any_case(text).map_err(|error: common::id::IdError| error.to_string())
}

fn count(least: u64, most: u64) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    RangedU64ValueParser::<u64>::new()
        .range(least..=most)
        .try_map(usize::try_from)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use runtime::settings::read;

    use super::*;

    const ID: &str = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";

    fn settings(more: &[&str]) -> Result<Settings, String> {
        let least = ["vdsm-svc", "--data-dir", "/d", "--storage-root", "/s"];
        let arguments = least.iter().chain(more).map(OsString::from);
        read(PREFIX, arguments, |_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_as_the_contract_says() {
        let settings = settings(&["--host-id", ID]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:54321");
        assert_eq!(settings.limits(), Limits::default());
        assert_eq!(settings.retention(), Retention::default());
        assert_eq!(settings.no_progress_timeout(), Duration::from_secs(300));
        assert_eq!(settings.storage_user.to_string(), "36:36");
        assert_eq!(settings.watch_terms().max_age, Duration::from_secs(3_600));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_flag() {
        for (more, named) in [
            (&["--host-id", "x"][..], "--host-id"),
            (&["--host-id", ID, "--storage-user", "0:36"], "--storage-user"),
            (&["--host-id", ID, "--queue-limit", "0"], "--queue-limit"),
            (&["--host-id", ID, "--cleared-days", "29"], "--cleared-days"),
            (
                &["--host-id", ID, "--no-progress-timeout", "0"],
                "--no-progress-timeout",
            ),
            (
                &["--host-id", ID, "--max-watch-seconds", "0"],
                "--max-watch-seconds",
            ),
            (&[], "--host-id"),
        ] {
            let error = settings(more).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}

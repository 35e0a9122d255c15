//! The engine's settings. Each setting is a flag, a variable `ENGINE_SVC_…`, or a key of the file that `--config`
//! names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use runtime::audit::AuditSettings;
use runtime::coordinator::Retention;
use runtime::metrics::MetricsSettings;
use runtime::server::Limits;
use runtime::telemetry::LogFormat;
use runtime::tls::{Door, HostDoor};
use runtime::watch::{MAX_AGE, Terms};

/// How often a stream on which nothing happens sends its client a heartbeat, unless the client asks for something
/// else.
const CLIENT_HEARTBEAT: Duration = Duration::from_secs(30);

/// The prefix of the environment variables.
pub const PREFIX: &str = "ENGINE_SVC";

/// Accepts commands, performs their tasks on hosts, and shows both.
///
/// A flag overrides its variable in the environment, and the variable overrides the file that --config names (TOML,
/// with the flags' names and underscores). RUST_LOG filters the log, for example RUST_LOG=engine_svc=debug,info.
#[derive(Debug, Clone, Parser)]
#[command(name = "engine-svc", version, after_help = help())]
pub struct Settings {
    /// Address and port to serve on. Port 0 takes a free port, and the file `address` in the data directory names it.
    /// An address that is not loopback requires TLS (--tls-cert) or --insecure.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:54320", value_parser = runtime::settings::listen_address)]
    pub listen: SocketAddr,

    /// Directory of commands, tasks and their history; created if it does not exist. It must be on a local file
    /// system that honours fsync.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Ask the service that runs on this data directory whether it serves (grpc.health.v1), and exit: with 0 if it
    /// does, otherwise with 1 and the reason. For health checks of containers.
    #[arg(long)]
    pub health: bool,

    /// The format of the log lines on stderr.
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,

    /// Days of history after which watchers can still resume.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub history_days: u32,

    /// Number of latest revisions from which watchers can resume, however old these are.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub history_revisions: u64,

    /// Days for which a command is kept after its end, with its tasks and its request; at least 7.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..))]
    pub command_days: u32,

    /// How often a host sends a heartbeat when it has nothing else to say, in milliseconds. After three missed
    /// heartbeats the host counts as away.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub heartbeat_ms: u32,

    /// Seconds after which the engine ends a watch regularly, give or take a tenth; the client then resumes.
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_AGE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub max_watch_seconds: u64,

    /// Memory for the database's pages, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub cache_mib: u32,

    /// Maximum number of unfinished commands, including their parts (a VM with 64 disks counts 65); further commands
    /// are refused with TOO_MANY_COMMANDS. Each takes some kB of memory, and its texts, for as long as its host is
    /// away.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub max_live_commands: u32,

    /// The same for one user (x-user): half of all, so that no user takes the place of the others.
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub max_live_commands_per_user: u32,

    /// Maximum total size of the names and descriptions of unfinished commands, in MiB, counted once for a command
    /// and once for the task that does it; further commands are refused with TOO_MANY_COMMANDS. A description has at
    /// most 16 kB, and few are near that size.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_live_command_mib: u32,

    /// The same for one user (x-user): half of all, so that no user takes the place of the others.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_live_command_mib_per_user: u32,

    /// Maximum number of recorded tasks of one host that somebody else started; of further ones, only the number is
    /// shown.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_foreign_tasks_per_host: u32,

    /// Access to the service.
    #[command(flatten)]
    pub door: Door,

    /// Connections to hosts.
    #[command(flatten)]
    pub host_door: HostDoor,

    /// Limits for clients.
    #[command(flatten)]
    pub wire: Limits,

    /// Metrics.
    #[command(flatten)]
    pub metrics: MetricsSettings,

    /// The audit log.
    #[command(flatten)]
    pub audit: AuditSettings,
}

impl Settings {
    /// How much history is kept.
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            max_age: days(self.history_days),
            max_revisions: self.history_revisions,
        }
    }

    /// The bounds of what the engine accepts.
    pub(crate) fn limits(&self) -> engine_core::Limits {
        engine_core::Limits {
            commands: self.max_live_commands as usize,
            commands_per_user: self.max_live_commands_per_user as usize,
            text_bytes: (self.max_live_command_mib as usize) << 20,
            text_bytes_per_user: (self.max_live_command_mib_per_user as usize) << 20,
            foreign_tasks_per_host: self.max_foreign_tasks_per_host as usize,
            ..engine_core::Limits::default()
        }
    }

    /// How long a command is kept after its end.
    pub(crate) fn command_age(&self) -> Duration {
        days(self.command_days)
    }

    /// The longest configured age.
    pub(crate) fn greatest_age(&self) -> Duration {
        self.command_age().max(self.retention().max_age)
    }

    /// How often a host sends a heartbeat.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into())
    }

    /// The terms of every watch.
    pub(crate) fn watch_terms(&self) -> Terms {
        Terms {
            heartbeat: CLIENT_HEARTBEAT,
            max_age: Duration::from_secs(self.max_watch_seconds),
        }
    }

    /// Memory for the database's pages.
    pub(crate) fn cache_bytes(&self) -> usize {
        usize::try_from(self.cache_mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20)
    }
}

/// The help on what the program does besides serving.
fn help() -> String {
    [runtime::offline::HELP, crate::pki::HELP].join("\n\n")
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 60 * 60)
}

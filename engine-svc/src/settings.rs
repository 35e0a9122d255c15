//! The engine's settings. Each is a flag, a variable `ENGINE_SVC_…`, or a key of the file that `--config` names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use runtime::coordinator::Retention;
use runtime::metrics::MetricsSettings;
use runtime::server::Limits;
use runtime::telemetry::LogFormat;
use runtime::tls::{Door, HostDoor};
use runtime::watch::{MAX_AGE, Terms};

/// How often a client hears of a stream on which nothing happens, unless it asks for something else.
const CLIENT_HEARTBEAT: Duration = Duration::from_secs(30);

/// The prefix of the variables in the environment.
pub const PREFIX: &str = "ENGINE_SVC";

/// Accepts commands, drives their tasks on hosts, and shows both.
///
/// A flag wins over its variable in the environment, and that over the file that --config names (TOML, the flags'
/// names with underscores). RUST_LOG filters the log, for example RUST_LOG=engine_svc=debug,info.
#[derive(Debug, Clone, Parser)]
#[command(name = "engine-svc", version, after_help = help())]
pub struct Settings {
    /// Address and port to serve on. Port 0 takes a free one, and `address` in the data directory names it. One that is
    /// not loopback takes TLS (--tls-cert), or --insecure.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:54320", value_parser = runtime::settings::listen_address)]
    pub listen: SocketAddr,

    /// Directory of commands, tasks and their history; made if it is not there. On a local file system that honours
    /// fsync.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Ask the service that runs over this data directory whether it serves (grpc.health.v1), and exit: with 0 if it
    /// does, else with 1 and the reason. For container health checks.
    #[arg(long)]
    pub health: bool,

    /// What log lines, on stderr, look like.
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,

    /// Days for which watchers can resume where they were.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub history_days: u32,

    /// Revisions for which watchers can resume where they were, however young older ones are.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub history_revisions: u64,

    /// Days for which a command that has ended is kept, with its tasks and its request; at least 7.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..))]
    pub command_days: u32,

    /// How often a host sends a heartbeat when it has nothing else to say, in milliseconds. After three that stay
    /// out it counts as away.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub heartbeat_ms: u32,

    /// Seconds after which a watch ends in good order, give or take a tenth, and its client resumes.
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_AGE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub max_watch_seconds: u64,

    /// Memory for the database's pages, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub cache_mib: u32,

    /// Commands that have not ended, each part counted (a VM of 64 disks is 65); what would exceed it is refused with
    /// TOO_MANY_COMMANDS. Each takes some kB of memory, and its texts, for as long as its host is away.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub max_live_commands: u32,

    /// Those of one user (x-user): half of all, so that one does not take the place of the others.
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub max_live_commands_per_user: u32,

    /// MiB of names and descriptions of commands that have not ended, each counted once for a command and once for what does
    /// it; what would exceed it is refused with TOO_MANY_COMMANDS. A description has 16 kB at most, and few come near it.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_live_command_mib: u32,

    /// Those of one user (x-user): half of all, so that one does not take the place of the others.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_live_command_mib_per_user: u32,

    /// Tasks of one host that somebody else started, as far as they are recorded; of more only the number is told.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_foreign_tasks_per_host: u32,

    /// Who may come in.
    #[command(flatten)]
    pub door: Door,

    /// How hosts are met.
    #[command(flatten)]
    pub host_door: HostDoor,

    /// What clients may use.
    #[command(flatten)]
    pub wire: Limits,

    /// Where metrics are served.
    #[command(flatten)]
    pub metrics: MetricsSettings,
}

impl Settings {
    /// How much of the history is kept.
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            max_age: days(self.history_days),
            max_revisions: self.history_revisions,
        }
    }

    /// How much the engine takes upon itself.
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

    /// How long a command that has ended is kept.
    pub(crate) fn command_age(&self) -> Duration {
        days(self.command_days)
    }

    /// The greatest age that is asked for.
    pub(crate) fn greatest_age(&self) -> Duration {
        self.command_age().max(self.retention().max_age)
    }

    /// How often a host sends a heartbeat.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into())
    }

    /// What holds of every watch.
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

/// What the program does besides serving.
fn help() -> String {
    [runtime::offline::HELP, crate::pki::HELP].join("\n\n")
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 60 * 60)
}

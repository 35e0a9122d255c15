//! The engine's settings. Each is a flag, a variable `ENGINE_SVC_…`, or a key of the file that `--config` names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use runtime::coordinator::Retention;
use runtime::telemetry::LogFormat;

/// The prefix of the variables in the environment.
pub const PREFIX: &str = "ENGINE_SVC";

/// The engine: accepts commands, drives their tasks on hosts, and shows both.
#[derive(Debug, Clone, Parser)]
#[command(name = "engine-svc", version)]
pub struct Config {
    /// Where to listen, as ADDRESS:PORT; port 0 takes a free one. DATA_DIR/address holds the outcome.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:54320")]
    pub listen: SocketAddr,

    /// Where commands, tasks and their history are kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// What a log line looks like: human, or json (one object a line).
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,

    /// What is logged: a level, or a list such as engine_svc=debug,info.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log_filter: String,

    /// How long the history is kept for streams that resume, in hours.
    #[arg(long, value_name = "HOURS", default_value_t = 7 * 24)]
    pub history_hours: u32,

    /// How many revisions of the history are kept at most.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub history_revisions: u64,

    /// How long a command that has ended is kept, with its request, in hours; at least 168 (7 days).
    #[arg(long, value_name = "HOURS", default_value_t = 30 * 24, value_parser = clap::value_parser!(u32).range(168..))]
    pub command_hours: u32,

    /// How often a host sends a heartbeat when it has nothing else to say, in milliseconds. After three that stay
    /// out it counts as away.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub heartbeat_ms: u32,

    /// Memory for the database's pages, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub cache_mib: u32,
}

impl Config {
    /// How much of the history is kept.
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            max_age: hours(self.history_hours),
            max_revisions: self.history_revisions,
        }
    }

    /// How long a command that has ended is kept.
    pub(crate) fn command_age(&self) -> Duration {
        hours(self.command_hours)
    }

    /// How often a host sends a heartbeat.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into())
    }

    /// Memory for the database's pages.
    pub(crate) fn cache_bytes(&self) -> usize {
        usize::try_from(self.cache_mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20)
    }
}

fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 60 * 60)
}

//! The bounds of a service on the wire, each a setting with its reason.

use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are kept for the store, for storage and for programs that are started, whatever connections there are.
const FILES_HELD_BACK: u64 = 256;

/// Connections beyond the bound that are told why, for a moment: one that is only closed teaches nobody.
pub(super) const REFUSED_AT_ONCE: usize = 16;

// Their text is the settings' help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bounds on what clients may use")]
pub struct Limits {
    /// Connections at a time. Each is an open file and some tens of kB; 256 files are always kept for the store and for
    /// storage, so a low limit of open files lowers this. When it is met, a connection without calls makes room, or the new
    /// one is refused with TOO_MANY_CONNECTIONS.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Connections at a time from one address, so that one machine does not take the place of all others; lowered as
    /// --max-connections is. A proxy in front is one address.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections_per_peer: u32,

    /// Seconds within which a new connection must begin to speak HTTP/2; then it is closed. Enough for a slow link.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub handshake_seconds: u64,

    /// Calls at a time on one connection; the client's library holds back what is more. Enough for a client that
    /// watches and works, and 1 in 4 of all requests at most.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_calls_per_connection: u32,

    /// Requests at a time that are neither watches nor waits; one more is refused with TOO_MANY_REQUESTS. More would only
    /// wait for each other, and for memory.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_requests: u32,

    /// Calls at a time that wait for something, such as WaitCommand; one more is refused with TOO_MANY_REQUESTS. Each costs
    /// some 10 kB.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_waits: u32,

    /// Streams at a time, watches most of all; one more is refused with TOO_MANY_REQUESTS. Each costs some 18 kB, and its
    /// filter: 16 bytes for each id, of which there is room for 16 MiB (half of --max-held-mib) in all.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_watches: u32,

    /// Seconds within which a request is answered, and within which its client must have taken the answer; else it ends
    /// with DEADLINE_EXCEEDED, or its connection is closed. Storage is waited for for 30 s.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub request_seconds: u64,

    /// MiB for requests that are half read and answers that are not yet taken, of all clients, and half as much for the
    /// filters of watches; what does not fit is refused with TOO_MANY_REQUESTS. A message has 256 KiB at most.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=65_536))]
    pub max_held_mib: u32,

    /// Lists, and beginnings of watches, that read the store at a time, one of a connection at most; others wait for their
    /// turn, and who has read least is next. Each may use a processor and some MiB: with more at a time, all else is slower.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub max_long_reads: u32,
}

impl Default for Limits {
    /// As the settings have it.
    fn default() -> Self {
        Self {
            max_connections: 4_000,
            max_connections_per_peer: 2_000,
            handshake_seconds: 10,
            max_calls_per_connection: 250,
            max_requests: 1_000,
            max_waits: 5_000,
            max_watches: 10_000,
            request_seconds: 60,
            max_held_mib: 32,
            max_long_reads: 2,
        }
    }
}

impl Limits {
    pub(super) fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    pub(super) fn request(&self) -> Duration {
        Duration::from_secs(self.request_seconds)
    }

    pub(super) fn held_bytes(&self) -> usize {
        usize::try_from(self.max_held_mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20)
    }

    /// What watches may keep of their requests.
    pub(super) fn kept_bytes(&self) -> usize {
        self.held_bytes() / 2
    }

    /// Connections at a time, as far as the limit of open files allows.
    pub(super) fn connections(&self) -> usize {
        let asked = usize::try_from(self.max_connections).unwrap_or(usize::MAX);
        let allowed = for_connections(getrlimit(Resource::Nofile).current);
        if allowed < asked {
            tracing::warn!(
                asked,
                allowed,
                "the limit of open files allows fewer connections than configured: raise it (ulimit -n, LimitNOFILE)"
            );
        }
        asked.min(allowed)
    }

    /// Connections at a time from one address, where so many are allowed in all.
    pub(super) fn connections_of_peer(&self, allowed: usize) -> usize {
        let of_peer = usize::try_from(self.max_connections_per_peer).unwrap_or(usize::MAX);
        let asked = usize::try_from(self.max_connections).unwrap_or(usize::MAX);
        part(of_peer, asked, allowed)
    }
}

/// What one address may have of the connections that are allowed where more were asked for: the same part of them.
fn part(each: usize, asked: usize, allowed: usize) -> usize {
    let part = each.saturating_mul(allowed.min(asked)) / asked.max(1);
    part.max(1)
}

/// How many of so many files connections may be: what is held back is held back first, half where there are few.
fn for_connections(files: Option<u64>) -> usize {
    let Some(files) = files else { return usize::MAX };
    let left = files - FILES_HELD_BACK.min(files / 2);
    usize::try_from(left)
        .unwrap_or(usize::MAX)
        .saturating_sub(REFUSED_AT_ONCE)
        .max(1)
}

/// A connection is a file, and many systems let a process have 1,024 unless it asks for more.
pub(super) fn take_all_files() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        limits: Limits,
    }

    #[test]
    fn the_defaults_are_those_of_the_settings() {
        let parsed = Program::parse_from(["program"]).limits;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Limits::default()));
    }

    #[test]
    fn where_fewer_connections_are_allowed_one_address_has_the_same_part_of_them() {
        for (each, asked, allowed, expected) in [
            (2_000, 4_000, 4_000, 2_000),
            (2_000, 4_000, 184, 92),
            (2_000, 4_000, 1, 1),
            (3, 4_000, 1_000, 1),
            (4_000, 4_000, 184, 184),
            (5, 2, 2, 5),
        ] {
            assert_eq!(
                part(each, asked, allowed),
                expected,
                "{each} of {asked}, {allowed}"
            );
        }
    }

    #[test]
    fn files_are_held_back_before_connections_have_any() {
        for (files, connections) in [
            (None, usize::MAX),
            (Some(20_000), 20_000 - 256 - 16),
            (Some(1_024), 1_024 - 256 - 16),
            (Some(64), 64 - 32 - 16),
            (Some(10), 1),
        ] {
            assert_eq!(for_connections(files), connections, "{files:?}");
        }
    }
}

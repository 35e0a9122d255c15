//! Who may call which RPC: one row each, in [`crate::codes::SERVICES`]. A server asks before a request comes to its handler.
//!
//! The rows count where a caller is known, by the certificate of its connection. In plain text nobody is.

use std::fmt;
use std::str::FromStr;

use crate::codes::{Rpc, SERVICES};

/// What a user may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// And do the daily work: VMs, disks, their commands.
    Operator,
    /// And decide about hosts and storage domains, and give up what cannot be mended.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Users of this role and of those above it; as a viewer also an engine.
    User(Role),
    /// Engines. Whether it is the one that has the host is asked by the host.
    Engine,
}

impl Access {
    /// Whether a caller with this role may call the RPC; without one the caller is an engine.
    pub fn permits(self, role: Option<Role>) -> bool {
        match (self, role) {
            (Self::Engine, role) => role.is_none(),
            (Self::User(needed), role) => needed <= role.unwrap_or(Role::Viewer),
        }
    }
}

/// Who may call an RPC, by its path (`/package.Service/Method`); none where the path is no RPC of the contract.
pub fn access(path: &str) -> Option<Access> {
    Some(row(path)?.access)
}

/// RPCs that are not for viewers and still change nothing that is kept: `MeetLives` is an engine's heartbeat.
const HEARTBEATS: [&str; 1] = ["MeetLives"];

/// Whether an RPC changes something that is kept, by its path; none if the path is no RPC of the contract.
pub fn changes(path: &str) -> Option<bool> {
    let rpc = row(path)?;
    Some(rpc.access != Access::User(Role::Viewer) && !HEARTBEATS.contains(&rpc.name))
}

fn row(path: &str) -> Option<&'static Rpc> {
    let (service, rpc) = path.strip_prefix('/')?.split_once('/')?;
    let service = SERVICES.iter().find(|one| one.name == service)?;
    service.rpcs.iter().find(|one| one.name == rpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_and_may_do_what_those_before_it_may() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
        assert!(Role::ALL.is_sorted());
    }

    #[test]
    fn an_rpc_is_for_whom_its_row_says() {
        let host = "/vdsm_engine.host.v1.TaskService/";
        let engine = "/vdsm_engine.engine.v1.HostService/";
        for (path, expected) in [
            (format!("{host}StartTask"), Some(Access::Engine)),
            (format!("{host}GetTask"), Some(Access::User(Role::Viewer))),
            (format!("{engine}AddHost"), Some(Access::User(Role::Admin))),
            (format!("{engine}Moon"), None),
            ("/grpc.health.v1.Health/Check".to_owned(), None),
        ] {
            assert_eq!(access(&path), expected, "{path}");
        }
    }

    #[test]
    fn every_rpc_changes_something_unless_it_looks_or_is_a_heartbeat() {
        let mut heartbeats = Vec::new();
        for service in SERVICES {
            for rpc in service.rpcs {
                let is_for_viewers = rpc.access == Access::User(Role::Viewer);
                let changes = changes(&format!("/{}/{}", service.name, rpc.name)).unwrap();
                assert!(!(is_for_viewers && changes), "{}", rpc.name);
                if !is_for_viewers && !changes {
                    heartbeats.push(rpc.name);
                }
            }
        }
        assert_eq!(heartbeats, HEARTBEATS);
        assert_eq!(changes("/grpc.health.v1.Health/Check"), None);
    }

    /// What looks changes nothing, and what a viewer may call looks.
    #[test]
    fn a_viewer_may_look_and_do_nothing() {
        for service in SERVICES {
            for rpc in service.rpcs {
                let looks = ["Get", "List", "Watch", "Wait", "Probe", "WhoAmI"]
                    .iter()
                    .any(|verb| rpc.name.starts_with(verb));
                let is_for_viewers = rpc.access == Access::User(Role::Viewer);
                assert_eq!(looks, is_for_viewers, "{}/{}", service.name, rpc.name);
            }
        }
    }
}

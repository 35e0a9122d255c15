//! How the engine stands with each host right now. Not durable: after a restart every host is away until it
//! answers. Written by the followers, read by whoever shows a host or what waits for one.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use common::fault::Fault;
use common::id::HostId;
use common::time::Timestamp;

/// How the engine stands with a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Its stream is open.
    Connected,
    /// It does not answer; the fault says how it showed.
    Away(Fault),
    /// It answers, but not as the host that was added, or it is another engine's.
    Refused(Fault),
}

/// A link and since when it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How.
    pub link: Link,
    /// Since when; for people.
    pub since: Timestamp,
}

/// The standing of every followed host. Cheap to clone; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Board {
    hosts: Arc<RwLock<BTreeMap<HostId, Standing>>>,
}

impl Board {
    /// How the engine stands with `host_id`; none if it does not follow it.
    pub fn standing(&self, host_id: HostId) -> Option<Standing> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.get(&host_id).cloned()
    }

    /// Whether every followed host is connected.
    pub(crate) fn all_connected(&self) -> bool {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.values().all(|standing| standing.link == Link::Connected)
    }

    /// Notes a link. One that is the same in kind keeps its time: since when it is so does not move with each
    /// failed attempt.
    pub(crate) fn note(&self, host_id: HostId, link: Link, now: Timestamp) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let since = match hosts.get(&host_id) {
            Some(standing) if same_kind(&standing.link, &link) => standing.since,
            _ => now,
        };
        hosts.insert(host_id, Standing { link, since });
    }

    /// Forgets a host that is no longer followed.
    pub(crate) fn forget(&self, host_id: HostId) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.remove(&host_id);
    }
}

const fn same_kind(a: &Link, b: &Link) -> bool {
    matches!(
        (a, b),
        (Link::Connected, Link::Connected)
            | (Link::Away(_), Link::Away(_))
            | (Link::Refused(_), Link::Refused(_))
    )
}

#[cfg(test)]
mod tests {
    use common::fault::FaultCode;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_time_of_a_loss_does_not_move_with_each_attempt() {
        let board = Board::default();
        let host = HostId::from_uuid(Uuid::from_u128(1));
        let away = |text: &str| Link::Away(Fault::new(FaultCode::HostAway, text));
        board.note(host, away("refused"), Timestamp(1));
        board.note(host, away("timed out"), Timestamp(2));
        let standing = board.standing(host).unwrap();
        assert_eq!((standing.link, standing.since), (away("timed out"), Timestamp(1)));
        board.note(host, Link::Connected, Timestamp(3));
        assert_eq!(board.standing(host).unwrap().since, Timestamp(3));
        board.forget(host);
        assert_eq!(board.standing(host), None);
    }
}
